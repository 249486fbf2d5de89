//go:build linux

package main

import (
	"context"
	"fmt"
)

// measureFunc measures a server that has just been started.
type measureFunc func(ctx context.Context, s *server) (reading, error)

// measurement is one load for all of its contenders.
type measurement struct {
	name       string // what -only matches
	among      []*contender
	setup      setup
	measure    measureFunc
	quantities []quantity
}

// quantity is one number of a measurement.
type quantity struct {
	name    string
	against *contender // the others are compared with its value; nil means with none
	goals   []goal
}

// goal is a bound for a contender's value, or for its value relative to another's:
// at most, or at least.
type goal struct {
	of              *contender
	against         *contender // nil: the value itself
	minus           bool       // the difference, not the ratio
	least           bool
	must, ambitious float64
}

func value(name string, against *contender, goals ...goal) quantity {
	return quantity{name, against, goals}
}

// atMost and atLeast return goals for waveproxy.
func atMost(against *contender, must, ambitious float64) goal {
	return goal{of: waveproxy, against: against, must: must, ambitious: ambitious}
}

func atLeast(against *contender, must, ambitious float64) goal {
	return goal{of: waveproxy, against: against, least: true, must: must, ambitious: ambitious}
}

// The rates of the open loop, in requests per second. Distribution cannot
// answer as many as the others.
const (
	openRate             = 2000
	openRateDistribution = 200
)

// plan is all measurements. The goals are the project's; the README quotes the table.
func (l *lab) plan(cache bool) []measurement {
	with := func(all ...*contender) []*contender { return all }
	withCache := func(all ...*contender) []*contender {
		if cache {
			return append(all, waveCaching)
		}
		return all
	}
	plain, overTLS := setup{upstream: plainUpstream}, setup{tls: true, upstream: tlsUpstream}
	cold, slow := setup{cold: true, upstream: countedUpstream}, setup{cold: true, upstream: l.slow.base}
	fresh := setup{cold: true, upstream: plainUpstream}
	contenders := withCache(direct, nginx, nginxCaching, distribution, waveproxy)

	var all []measurement
	for _, n := range []int{1, 8, 64} {
		speed, cpu, memory := value("MB/s", nginx), value("CPU s/GB", nginx), value("RSS MB", nil)
		if n == 1 {
			speed.goals = []goal{atLeast(nginx, 0.8, 1)}
		} else {
			cpu.goals = []goal{atMost(nginx, 1.25, 1.05)}
		}
		if n == 64 {
			memory.goals = []goal{atMost(nil, 40, 40)}
		}
		all = append(all, measurement{fmt.Sprintf("blob/plain/%d", n), contenders, plain, l.streams(n), []quantity{speed, cpu, memory}})
	}
	for _, n := range []int{1, 8, 64} {
		all = append(all, measurement{fmt.Sprintf("blob/tls/%d", n), with(nginx, waveproxy), overTLS, l.streams(n),
			[]quantity{value("MB/s", nginx), value("CPU s/GB", nginx, atMost(nginx, 1.05, 0.9))}})
	}
	for _, n := range []int{8, 64} {
		all = append(all, measurement{fmt.Sprintf("blob/injected/%d", n), with(direct, waveproxy), plain, l.injectedStreams(n),
			[]quantity{value("MB/s", direct), value("CPU s/GB", direct, atMost(direct, 1.3, 1.1))}})
	}
	rate := func(s *server) int {
		if s.name == distribution.name {
			return openRateDistribution
		}
		return openRate
	}
	mint := []quantity{value("own ms", nil, atMost(nil, 10, 4))}
	aboveStreaming := goal{of: waveCaching, against: waveproxy, minus: true, must: 0.95, ambitious: 0.85}
	all = append(all,
		measurement{"blob/slow/500", withCache(nginx, distribution, waveproxy), plain, l.slowStreams(500),
			[]quantity{value("RSS MB", nginx, atMost(nil, 80, 50)), value("CPU s/GB", nginx)}},
		measurement{"manifest/closed", contenders, plain, l.closedLoop,
			[]quantity{value("req/s", nginx, atLeast(nginx, 0.8, 1.1), atLeast(distribution, 40, 70)), value("CPU µs/req", nginx)}},
		measurement{"manifest/open", with(nginx, distribution, waveproxy), plain, l.openLoop(rate),
			[]quantity{value("p50 ms", nginx), value("p99 ms", nginx, atMost(nginx, 1.5, 1))}},
		measurement{"mint/single", with(waveproxy), slow, l.mints("single", false, 2, 2), mint},
		measurement{"mint/index", with(waveproxy), slow, l.mints("index", false, 5, 3), mint},
		measurement{"mint/single/known", with(waveproxy), slow, l.mints("single", true, 1, 1), mint},
		measurement{"mint/index/known", with(waveproxy), slow, l.mints("index", true, 1, 1), mint},
		measurement{"submit/1", with(waveproxy), fresh, l.submits(1), []quantity{value("req/s", nil), value("CPU µs/req", nil)}},
		measurement{"submit/8", with(waveproxy), fresh, l.submits(8), []quantity{value("req/s", nil, atLeast(nil, 1500, 3000)), value("CPU µs/req", nil)}},
		measurement{"pull/whole", contenders, plain, l.wholePull,
			[]quantity{value("ms", nginx), value("CPU s/pull", nginx)}},
		measurement{"pull/cold100", contenders, cold, l.manyPulls, []quantity{
			value("s", nginx), value("CPU s/GB", nginx), value("first byte ms", waveproxy), value("upstream GB", nil),
			value("upstream GETs", nil, goal{of: waveCaching, must: 1, ambitious: 1})}},
	)
	if cache {
		all = append(all, measurement{"cache/fill", with(waveproxy, waveCaching), cold, l.fill,
			[]quantity{value("MB/s", waveproxy), value("CPU s/GB", waveproxy, aboveStreaming), value("first byte ms", waveproxy)}})
	}
	return all
}
