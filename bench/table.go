//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// print writes the table, in Markdown.
func (res *result) print(w io.Writer) error {
	rows := [][]string{{"measurement", "quantity", "server", "median (min–max)", "× reference (min–max)", "goal: must / ambitious"}}
	for _, m := range res.measurements {
		rows = append(rows, res.rows(m)...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", res.Machine)
	again, disturbed, busiest := res.disturbances()
	fmt.Fprintf(&b, "%d rounds in %.0f s. Of %d samples, %d were taken twice. During %d, other programs used more than %v cores (at most %.1f).\n",
		res.Options.Rounds, res.Options.Took, len(res.Samples), again, disturbed, quiet, busiest)
	if res.Options.Short {
		b.WriteString("This was a smoke run (-short): its numbers must not be quoted.\n")
	}
	for _, n := range res.Notes {
		fmt.Fprintln(&b, n)
	}
	b.WriteString("\n")
	align(&b, rows)
	if len(res.Failures) > 0 {
		b.WriteString("\nFailed:\n")
	}
	for _, f := range res.Failures {
		fmt.Fprintf(&b, "- %s, %s, round %d: %s\n", f.Measurement, f.Server, f.Round, strings.ReplaceAll(f.Error, "\n", "; "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// rows returns a measurement's lines: every quantity of every contender.
func (res *result) rows(m measurement) (rows [][]string) {
	name := m.name
	for _, q := range m.quantities {
		quantity := q.name
		for _, c := range m.among {
			row := []string{name, quantity, c.name, "failed", "", ""}
			if values := res.values(m, q, c); len(values) > 0 && !res.failed(m, c) {
				row[3], row[4], row[5] = spread(values), res.relative(m, q, c), res.verdicts(m, q, c)
			}
			rows = append(rows, row)
			name, quantity = "", ""
		}
	}
	return rows
}

func (res *result) failed(m measurement, c *contender) bool {
	return slices.ContainsFunc(res.Failures, func(f failure) bool { return f.Measurement == m.name && f.Server == c.name })
}

// relative returns a contender's value compared with the reference's.
func (res *result) relative(m measurement, q quantity, c *contender) string {
	if q.against == nil {
		return ""
	}
	ratios := within(res.values(m, q, c), res.values(m, q, q.against), false)
	if len(ratios) == 0 {
		return ""
	}
	if c == q.against {
		return "1"
	}
	return spread(ratios)
}

// verdicts returns how a contender stands to its goals.
func (res *result) verdicts(m measurement, q quantity, c *contender) string {
	var all []string
	for _, g := range q.goals {
		if g.of != c {
			continue
		}
		values, unit := res.values(m, q, c), ""
		if g.against != nil {
			values, unit = within(values, res.values(m, q, g.against), g.minus), " × "+g.against.name
			if g.minus {
				unit = " above " + g.against.name
			}
		}
		sign := "≤"
		if g.least {
			sign = "≥"
		}
		all = append(all, fmt.Sprintf("%s %s / %s%s: %s", sign, number(g.must), number(g.ambitious), unit, g.verdict(values)))
	}
	return strings.Join(all, "; ")
}

// verdict compares the median with the goal.
func (g goal) verdict(values map[int]float64) string {
	if len(values) == 0 {
		return "unknown"
	}
	found := medianOf(values)
	reached := func(limit float64) bool {
		if g.least {
			return found >= limit
		}
		return found <= limit
	}
	switch {
	case reached(g.ambitious):
		return number(found) + ", ambitious"
	case reached(g.must):
		return number(found) + ", met"
	default:
		return number(found) + ", MISSED"
	}
}

// within returns the ratios or differences between values of the same round.
func within(values, reference map[int]float64, minus bool) map[int]float64 {
	compared := map[int]float64{}
	for round, v := range values {
		r, ok := reference[round]
		switch {
		case ok && minus:
			compared[round] = v - r
		case ok && r != 0:
			compared[round] = v / r
		}
	}
	return compared
}

// median returns the median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func medianOf(values map[int]float64) float64 {
	return median(slices.Collect(maps.Values(values)))
}

func spread(values map[int]float64) string {
	all := slices.Sorted(maps.Values(values))
	if len(all) == 1 {
		return number(all[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(all)), number(all[0]), number(all[len(all)-1]))
}

// number formats a value with about three digits.
func number(v float64) string {
	var text string
	switch abs := max(v, -v); {
	case abs >= 99.5:
		return fmt.Sprintf("%.0f", v)
	case abs >= 9.95:
		text = fmt.Sprintf("%.1f", v)
	case abs >= 0.0995:
		text = fmt.Sprintf("%.2f", v)
	default:
		text = fmt.Sprintf("%.3f", v)
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// align writes a Markdown table whose columns line up in a terminal, too.
func align(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
}

// disturbances returns the number of samples that were taken again, the number of
// samples that stayed disturbed, and the most cores that other programs used.
func (res *result) disturbances() (again, disturbed int, busiest float64) {
	for _, s := range res.Samples {
		if s.Again {
			again++
		}
		if s.Foreign > quiet {
			disturbed++
		}
		busiest = max(busiest, s.Foreign)
	}
	return again, disturbed, busiest
}
