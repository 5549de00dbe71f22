package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/replay"
)

// printGroups prints the counts. Before it reads the headers of all letters, which takes a
// second for each hundred thousand, the table says how many there are, which the
// server knows. found tells whether any match.
func (c *DLQListCmd) printGroups(ctx context.Context, p *process, letters *replay.Letters, filter replay.Filter) (found bool, err error) {
	table := c.Output == "table"
	if table {
		counts, err := letters.Counts(ctx)
		if err != nil {
			return false, err
		}
		total := 0
		for _, n := range counts {
			total += n
		}
		if _, err := fmt.Fprintf(p.Out, "%d dead letters%s\n\n", total, breakdown(counts)); err != nil {
			return false, err
		}
	}
	counted := filter
	counted.Limit = 0 // the counts are of all that match
	groups, err := letters.Groups(ctx, counted)
	if err != nil {
		return false, err
	}
	for i, g := range groups {
		row := printGroupRow
		if !table {
			row = printGroupJSON
		}
		if err := row(p.Out, g, i+1); err != nil {
			return false, err
		}
	}
	switch {
	case table && len(groups) == 0:
		_, _ = fmt.Fprintln(p.Err, "meterworker: no dead letters match")
	case table && !c.Groups:
		_, err = fmt.Fprintln(p.Out)
	}
	return len(groups) > 0, err
}

// groupObject is a group for programs; every field is always there.
type groupObject struct {
	Reason     string   `json:"reason"`
	Code       string   `json:"code"`
	Count      int      `json:"count"`
	Oldest     string   `json:"oldest"`           // when the first one died
	EventNames []string `json:"event_names"`      // by their subjects; at most 100
	MoreNames  bool     `json:"more_event_names"` // there are others
}

func printGroupJSON(w io.Writer, g replay.Group, _ int) error {
	return writeJSONLine(w, newGroupObject(g))
}

func newGroupObject(g replay.Group) groupObject {
	return groupObject{string(g.Reason), g.Code, g.Count, rfc3339(g.Oldest), g.EventNames, g.MoreNames}
}

const groupColumns = "%-32s  %-36s  %8v  %-20s  %s\n"

// printGroupRow prints the heading before the first row.
func printGroupRow(w io.Writer, g replay.Group, row int) error {
	var b strings.Builder
	if row == 1 {
		fmt.Fprintf(&b, groupColumns, "REASON", "CODE", "COUNT", "OLDEST", "EVENT NAMES")
	}
	const shown, wide = 5, 64
	names := make([]string, 0, shown+1)
	for i, name := range g.EventNames {
		if i == shown {
			more := fmt.Sprintf("and %d more", len(g.EventNames)-shown)
			if g.MoreNames {
				more = fmt.Sprintf("and more than %d more", len(g.EventNames)-shown)
			}
			names = append(names, more)
			break
		}
		names = append(names, cell(name, wide))
	}
	fmt.Fprintf(&b, groupColumns, cell(string(g.Reason), wide), cell(g.Code, wide), g.Count, g.Oldest.UTC().Format(time.RFC3339), strings.Join(names, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}
