package auth

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// Grant is what a token stands for: one image, pinned by digest, and what was
// added to it. Its JSON form is its identity, so member names and order are
// fixed, and empty members are left out so that nil and empty are the same.
type Grant struct {
	// Image is the repository with its registry: "docker.io/library/ubuntu".
	Image string `json:"image"`
	// Tag is the tag the image may be pulled by; empty for an image named by
	// digest.
	Tag string `json:"tag,omitempty"`
	// Base is the digest of the base image when the token was minted, of a
	// manifest or an index.
	Base digest.Digest `json:"base"`
	// Root describes the image that Base became: media type, digest and size.
	Root ocispec.Descriptor `json:"root"`
	// Recipe is what was added.
	Recipe augment.Recipe `json:"recipe"`
	// Platforms are the requested platforms of the base image, as
	// augment.FormatPlatform writes them; empty means every platform that fits.
	Platforms []string `json:"platforms,omitempty"`
	// Objects are the manifests, indexes and configs of Root that our store
	// holds. A digest in the store gives no access; a digest in this list may be
	// read with the token.
	Objects []digest.Digest `json:"objects,omitempty"`
	// Injected are the layers of Root that the recipe added.
	Injected []digest.Digest `json:"injected,omitempty"`
	// Absent are the manifests of the base image's indexes that Root is without, because
	// the registry had none or no config for them.
	Absent []digest.Digest `json:"absent,omitempty"`
	// Identity selects the credentials for the upstream: a name, never a secret.
	Identity string `json:"identity,omitempty"`
	// Named is the recipe's name in the configuration; empty if it came with a
	// request.
	Named string `json:"named,omitempty"`
	// Builder is the server that computed Root. The grant keeps it so that the
	// image's provenance stays the same after an upgrade. Empty in grants of older
	// versions and in grants that add nothing.
	Builder Builder `json:"builder,omitzero"`
	// Ancestors are the tokens that the image was made of, and the tokens that those were
	// made of, as Description.Mark gives them: the grant is revoked with each of them.
	Ancestors []string `json:"ancestors,omitempty"`
	// Asked is not part of the grant's identity: the first request counts. Neither are
	// the following members.
	Asked Asked `json:"-"`
	// Record is the name of the record that an opened grant is from. The blobs that
	// were stored with the grant are found by it.
	Record string `json:"-"`
	// Parts are blobs of Objects and Injected to store with the grant. An opened grant
	// has none.
	Parts []pack.Part `json:"-"`
}

// Asked is what a client says of its request, for people who look the request up.
type Asked struct {
	Timestamp   string `json:"timestamp,omitempty"` // not always RFC 3339
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Builder is a server and its version.
type Builder struct {
	ID      string `json:"id"` // the server's URL
	Version string `json:"version"`
}

// maxGrant bounds a grant's JSON in bytes: opened grants stay in memory.
const maxGrant = 256 << 10

// maxAncestors bounds the tokens whose revocations are looked up beside a token's own.
const maxAncestors = 32

func (g Grant) encode() ([]byte, error) {
	if n := len(g.Ancestors); n > maxAncestors {
		return nil, refuse("the image is made of %d images of this server, and at most %d are followed: name the base images", n, maxAncestors)
	}
	data, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	if len(data) > maxGrant {
		return nil, refuse("the recipe makes a grant of %d bytes, and at most %d are allowed: put large environments and commands into a layer", len(data), maxGrant)
	}
	return data, nil
}

// Cost returns what the grant costs in memory, in bytes.
func (g *Grant) Cost() int64 {
	// The struct, its entry in a cache, and what is lost where allocations are rounded.
	cost := int64(1 << 10)
	texts := func(list ...string) {
		for _, s := range list {
			cost += textCost(s)
		}
	}
	texts(g.Image, g.Tag, string(g.Base), g.Root.MediaType, string(g.Root.Digest), g.Identity, g.Named, g.Builder.ID, g.Builder.Version, g.Record)
	texts(g.Recipe.WorkingDir, g.Asked.Timestamp, g.Asked.Fingerprint)
	cost += int64(cap(g.Recipe.Layers)) * int64(unsafe.Sizeof(augment.Layer{}))
	for _, l := range g.Recipe.Layers {
		texts(string(l.Digest), string(l.DiffID), l.Platform, l.Location)
		texts(l.Via...)
		cost += int64(cap(l.Via)) * headerCost
	}
	for _, list := range [][]string{g.Recipe.Env, g.Recipe.ExtendEnv, g.Recipe.Certificates, g.Recipe.Entrypoint, g.Recipe.Cmd, g.Platforms, g.Ancestors} {
		texts(list...)
		cost += int64(cap(list)) * headerCost
	}
	if below := g.Recipe.Below; below != nil {
		cost += int64(unsafe.Sizeof(*below)) + (&Grant{Recipe: *below}).Cost()
	}
	for _, list := range [][]digest.Digest{g.Objects, g.Injected, g.Absent} {
		for _, d := range list {
			texts(string(d))
		}
		cost += int64(cap(list)) * headerCost
	}
	return cost
}

// headerCost is what a string costs in a slice, beside its bytes.
const headerCost = 16

// textCost is what the bytes of a string cost: allocations come in sizes that are at
// most an eighth apart.
func textCost(s string) int64 { return int64(len(s)) + int64(len(s))/8 + 8 }

// grantID names a grant: a truncated MAC of its JSON, so it reveals nothing
// without the key.
type grantID [macOffset - grantOffset]byte

func (id grantID) String() string { return hex.EncodeToString(id[:]) }

// record returns the name of the grant's record for a token that ends at the time. The
// same grant has another record for each day on which its tokens end.
func (id grantID) record(end time.Time) string { return until(end) + id.olderRecord() }

// olderRecord returns the name that older versions gave the record.
func (id grantID) olderRecord() string { return "grants/" + id.String() }

// until returns the beginning of the names of records that may be forgotten from the
// first day, in UTC, that begins after the time. blobstore.Until is the same.
func until(end time.Time) string {
	return "until/" + end.UTC().Truncate(24*time.Hour).Add(24*time.Hour).Format("2006-01-02") + "/"
}

func (k Key) grantID(data []byte) grantID {
	return grantID(truncatedMAC(k.grantMAC, data, len(grantID{})))
}

// entry is the content of a record. The time is beside the grant, not in it,
// because the same grant must have the same id whenever it is minted.
type entry struct {
	Created time.Time       `json:"created"` // of the record
	JSON    json.RawMessage `json:"grant"`
	Index   []byte          `json:"index,omitempty"` // the caller's, beside the grant
	Asked   Asked           `json:"asked,omitzero"`
	grant   *Grant
}

// seal returns an entry encrypted as a record: the key's header byte, then nonce and
// ciphertext. Header and name are authenticated, so a record that was moved to
// another name does not open.
func (k Key) seal(name []byte, e entry) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	return k.aead.Seal([]byte{k.header()}, nil, data, append([]byte{k.header()}, name...)), nil
}

func (k Key) unseal(name, record []byte) (*entry, error) {
	if len(record) == 0 || record[0] != k.header() {
		return nil, errors.New("grant record has another version or key")
	}
	data, err := k.aead.Open(nil, nil, record[1:], append([]byte{k.header()}, name...))
	if err != nil {
		return nil, errors.New("grant record is damaged")
	}
	e := &entry{grant: new(Grant)}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("decode grant: %w", err)
	}
	if err := json.Unmarshal(e.JSON, e.grant); err != nil {
		return nil, fmt.Errorf("decode grant: %w", err)
	}
	e.JSON = nil
	e.grant.Asked = e.Asked
	return e, nil
}
