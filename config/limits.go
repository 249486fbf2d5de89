package config

import (
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Limits are counted for each user that logs in, and for each address (IPv6:
// each /64) otherwise; from memory on, for each user at each address, and all
// addresses of a user or of an IPv6 /48 have half. A client above one gets 429 with
// Retry-After. 600/m lets
// 600 pass at once, and ten more each second; 0 is no limit.
//
// From memory on, the limits are for all clients together. One client may have a
// quarter, and the last quarter is only for clients that hold nothing yet. A request
// above a client's quarter gets 413, a client above its quarter 429, and any client
// 503 while all is taken. 0 is no limit here, too.
type Limits struct {
	// Layers is the largest number of layers an image may have. Above it the
	// injected layers are merged into one. At least 1. Default: 125, the most
	// that Docker's own store takes.
	Layers int `yaml:"layers"`
	// Submits is how many requests the API takes that make it work: images to
	// augment or inspect, logins to check. Default: 600/m.
	Submits ratelimit.Rate `yaml:"submits"`
	// Pulls is how many images may be pulled. All requests for the manifests of one
	// image count once in a minute; blobs are free. Default: 6000/m.
	Pulls ratelimit.Rate `yaml:"pulls"`
	// WrongLogins is how many wrong logins an address may send as one user, how often
	// it may send one wrong token, and how many different wrong tokens, to the
	// API and for pulls, before that user's logins are refused there without being
	// checked; four times as many as all users together. A login that was right in
	// the last day is always checked. Default: 30/m.
	WrongLogins ratelimit.Rate `yaml:"wrong_logins"`
	// Upstream is how many requests may wait at once for the answer of one
	// upstream host, at least 1; others queue, and clients take turns, then the
	// repositories of each. Blobs that are streaming do not count. Default: 64.
	Upstream int `yaml:"upstream"`

	// Elements is how many JSON elements the body of a request may have, at least
	// 1024: each costs memory when it is decoded, whatever its size. Default: 32768.
	Elements int `yaml:"elements"`
	// Memory is what all requests together may hold in bodies and documents; bodies
	// that arrive have half of it at most. Below
	// 8 times api.max_body and 4MiB it counts as that. One request may hold 2 times
	// api.max_body and 32MiB, if that is less than the quarter of its client.
	// Default: 260MiB.
	Memory Size `yaml:"memory"`
	// Fetches is how many downloads of layers that are taken in run at a time.
	// Default: 256.
	Fetches int `yaml:"fetches"`
	// Streams is how many blobs are sent to clients at a time. Default: 2048.
	Streams int `yaml:"streams"`
	// Processes is how many credential helpers run at a time, 16 at most. Default: 16.
	Processes int `yaml:"processes"`
	// Unpacked is how much may come out of the layers that are taken in, and of base
	// layers whose names are read, in a minute. A layer that is taken in counts twice
	// more if it is not compressed with gzip, and three times more when it is rewritten.
	// Default: 256GiB, so that a request may take in several layers of several GiB.
	Unpacked Size `yaml:"unpacked"`
	// Documents is how many manifests, configs and container configs are read, in a
	// minute. Default: 65536.
	Documents int `yaml:"documents"`
	// Descriptors is how many descriptors are kept from these documents, in a
	// minute. Default: 1048576.
	Descriptors int `yaml:"descriptors"`
	// Files is how many files are stored, in a minute. Default: 65536.
	Files int `yaml:"files"`
}

func defaultLimits() Limits {
	return Limits{
		Layers: 125, Upstream: 64, Elements: 1 << 15,
		Submits:     ratelimit.Rate{Events: 600, Per: time.Minute},
		Pulls:       ratelimit.Rate{Events: 6000, Per: time.Minute},
		WrongLogins: ratelimit.Rate{Events: 30, Per: time.Minute},
		Memory:      260 << 20, Fetches: 256, Streams: 2048, Processes: 16,
		Unpacked: 256 << 30, Documents: 1 << 16, Descriptors: 1 << 20, Files: 1 << 16,
	}
}

func (l Limits) check(k checker) {
	if l.Layers < 1 {
		k.add("limits.layers", l.Layers, "want at least 1")
	}
	if l.Upstream < 1 {
		k.add("limits.upstream", l.Upstream, "want at least 1")
	}
	if l.Elements < 1<<10 {
		k.add("limits.elements", l.Elements, "want at least 1024")
	}
	for _, size := range []struct {
		key   string
		value Size
	}{{"limits.memory", l.Memory}, {"limits.unpacked", l.Unpacked}} {
		if size.value < 0 {
			k.add(size.key, size.value, "want a size, or 0 for no limit")
		}
	}
	for _, count := range []struct {
		key   string
		value int
	}{
		{"limits.fetches", l.Fetches}, {"limits.streams", l.Streams}, {"limits.processes", l.Processes}, {"limits.documents", l.Documents},
		{"limits.descriptors", l.Descriptors}, {"limits.files", l.Files},
	} {
		if count.value < 0 || count.value > 0 && count.value < shares {
			k.add(count.key, count.value, "want at least 4, because a client may have a quarter, or 0 for no limit")
		}
	}
}

// shares is into how many shares all is divided. A client may have one.
const shares = 4

// Budgets returns what requests may cost: all, a client's share of it, and the
// part of the share that one request may have.
func (c *Config) Budgets() budget.Limits {
	l := &c.Limits
	all := budget.Limits{
		budget.Memory:      {All: int64(l.Memory)},
		budget.Fetches:     {All: int64(l.Fetches)},
		budget.Streams:     {All: int64(l.Streams)},
		budget.Processes:   {All: int64(l.Processes)},
		budget.Unpacked:    {All: int64(l.Unpacked)},
		budget.Documents:   {All: int64(l.Documents)},
		budget.Descriptors: {All: int64(l.Descriptors)},
		budget.Files:       {All: int64(l.Files)},
	}
	// A client must be able to send the largest body and have it decoded, beside what
	// requests cost without bodies.
	const request = 1 << 20
	twice := 2*int64(c.API.MaxBody) + request
	if memory := &all[budget.Memory]; memory.All > 0 {
		memory.All = max(memory.All, shares*twice)
	}
	// Bodies leave half of the memory to pulls, whose clients do not hold it open. A
	// quarter of the other half is still the largest body.
	all[budget.Bodies].All = all[budget.Memory].All / 2
	for k := range all {
		all[k].Client = all[k].All / shares
		all[k].Request = all[k].Client
	}
	memory := &all[budget.Memory]
	memory.Request = min(memory.Request, twice+32<<20)
	return all
}
