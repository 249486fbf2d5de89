//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// quiet is how many cores other programs may use while something is measured.
const quiet = 0.45

// result is the outcome of a run.
type result struct {
	Machine  machine   `json:"machine"`
	Options  settings  `json:"options"`
	Notes    []string  `json:"notes"`
	Failures []failure `json:"failures"`
	Samples  []sample  `json:"samples"`

	measurements []measurement
}

type settings struct {
	Rounds int     `json:"rounds"`
	Short  bool    `json:"short"`
	Took   float64 `json:"seconds"`
}

// sample is one contender's part in one round.
type sample struct {
	Measurement string             `json:"measurement"`
	Server      string             `json:"server"`
	Round       int                `json:"round"`
	Values      map[string]float64 `json:"values"`
	Foreign     float64            `json:"foreignCores"` // used by other programs
	Again       bool               `json:"again"`        // the first attempt was disturbed
}

type failure struct {
	Measurement string `json:"measurement"`
	Server      string `json:"server"`
	Round       int    `json:"round"`
	Error       string `json:"error"`
}

// measureAll takes every selected measurement in each round. A measurement that fails
// is left out of the following rounds.
func (l *lab) measureAll(ctx context.Context) *result {
	start := time.Now()
	res := &result{Machine: describeMachine(ctx, l.dir)}
	cache := l.hasCache(ctx)
	if !cache {
		res.Notes = append(res.Notes, waveCaching.name+": not measured, for this waveproxy does not know "+cacheSetting)
	}
	res.measurements = slices.DeleteFunc(l.plan(cache), func(m measurement) bool { return !l.only.MatchString(m.name) })
	failed := map[string]bool{}
	for round := range l.rounds {
		for _, m := range res.measurements {
			for i := range m.among {
				c := m.among[(i+round)%len(m.among)]
				if failed[m.name+c.name] || ctx.Err() != nil {
					continue
				}
				fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, l.rounds, m.name, c.name)
				s, err := l.cell(ctx, m, c)
				if err != nil {
					failed[m.name+c.name] = true
					res.Failures = append(res.Failures, failure{m.name, c.name, round + 1, err.Error()})
					continue
				}
				s.Measurement, s.Server, s.Round = m.name, c.name, round+1
				res.Samples = append(res.Samples, s)
			}
		}
	}
	res.Options = settings{l.rounds, l.short, time.Since(start).Seconds()}
	return res
}

// cell measures one contender once, or twice if other programs disturbed the first
// attempt, and returns the quieter attempt. A smoke run takes the first.
func (l *lab) cell(ctx context.Context, m measurement, c *contender) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := l.prepare(ctx, c, m.setup); err != nil {
		return sample{}, err
	}
	attempt := func() (r reading, err error) {
		dir, cleanUp, err := l.ownDir(c, m.setup)
		if err != nil {
			return r, err
		}
		defer cleanUp()
		err = l.with(ctx, c, m.setup, dir, func(s *server) error {
			r, err = m.measure(ctx, s)
			return err
		})
		return r, err
	}
	r, err := attempt()
	if err != nil || r.foreign <= quiet || l.short {
		return sample{Values: r.values, Foreign: r.foreign}, err
	}
	second, err := attempt()
	if second.foreign < r.foreign {
		r = second
	}
	return sample{Values: r.values, Foreign: r.foreign, Again: true}, err
}

// values returns the values of a quantity, by round.
func (res *result) values(m measurement, q quantity, c *contender) map[int]float64 {
	found := map[int]float64{}
	for _, s := range res.Samples {
		if s.Measurement == m.name && s.Server == c.name {
			found[s.Round] = s.Values[q.name]
		}
	}
	return found
}

func (res *result) writeJSON(file string) error {
	data, err := json.MarshalIndent(res, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
