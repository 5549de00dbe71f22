package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const statusLine = "%-13s %s\n"

// printStatus writes a look for people: the verdict first, then one line a matter.
func printStatus(w io.Writer, s status) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", strings.ReplaceAll(string(s.Verdict), "_", " "), s.At)
	if s.Mode != "" {
		fmt.Fprintf(&b, "  %s mode", escapeText(s.Mode))
	}
	b.WriteByte('\n')
	for _, why := range s.Why {
		fmt.Fprintf(&b, "  %s\n", escapeLines(why))
	}
	if s.Verdict != verdictUnknown {
		s.printBody(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *status) printBody(b *strings.Builder) {
	b.WriteByte('\n')
	fmt.Fprintf(b, statusLine, "backlog", s.Backlog.text())
	fmt.Fprintf(b, statusLine, "flow", s.flowText())
	fmt.Fprintf(b, statusLine, "rate", s.Rate.text())
	fmt.Fprintf(b, statusLine, "dead letters", s.DeadLetters.text())
	if len(s.Unowned) > 0 {
		fmt.Fprintf(b, statusLine, "unowned", ranges(s.Unowned))
	}
	for i, stream := range s.Streams {
		title := "streams"
		if i > 0 {
			title = ""
		}
		fmt.Fprintf(b, statusLine, title, stream.text())
	}
	s.printWorkers(b)
}

func (s *status) printWorkers(b *strings.Builder) {
	if len(s.Workers) == 0 {
		fmt.Fprintf(b, statusLine, "workers", "none")
		return
	}
	const columns = "%-32s  %-9s  %-16s  %9s  %6s  %-28s  %s\n"
	b.WriteByte('\n')
	fmt.Fprintf(b, columns, "WORKER", "STATE", "PARTITIONS", "RATE", "HELD", "LEDGER", "REASON")
	for _, w := range s.Workers {
		fmt.Fprintf(b, columns, cell(w.Name, 32), cell(w.State, 9), cell(ranges(w.Partitions), 16), perSecond(w.Rate), fmt.Sprint(w.Held),
			ofMost(uint64(max(w.LedgerBytes, 0)), w.LedgerMaxBytes), cell(w.Reason, 100))
	}
}

func (l statusBacklog) text() string {
	if l.Pending == 0 {
		return "nothing waits"
	}
	return fmt.Sprintf("%d pending: %d ready, %d in hand, %d in back-off; the oldest for %s", l.Pending, l.Ready, l.InHand, l.InBackOff, seconds(l.OldestSeconds))
}

func (s *status) flowText() string {
	f := s.Flow
	if f == nil {
		return "not known after one look"
	}
	text := fmt.Sprintf("%s published, %s settled", perSecond(f.Published), perSecond(f.Settled))
	switch {
	case s.Backlog.Pending == 0:
	case f.EtaSeconds == nil && f.Published > f.Settled:
		text += "; the backlog grows"
	case f.EtaSeconds == nil:
		text += "; the backlog does not shrink"
	default:
		text += "; the backlog is gone in " + seconds(*f.EtaSeconds)
	}
	return text
}

func (r statusRate) text() string {
	if r.Configured == 0 {
		return "not used yet"
	}
	text := fmt.Sprintf("%s used of %s in force (configured %s)", perSecond(r.Used), perSecond(r.InForce), perSecond(r.Configured))
	if r.PausedUntil != "" {
		text += "; Stripe asks to wait until " + r.PausedUntil
	}
	return text
}

func (l statusLetters) text() string {
	if l.Total == 0 {
		return "none"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(l.ByReason)) {
		parts = append(parts, fmt.Sprintf("%s %d", escapeText(reason), l.ByReason[reason]))
	}
	return fmt.Sprintf("%d: %s", l.Total, strings.Join(parts, ", "))
}

func (l statusStream) text() string {
	text := fmt.Sprintf("%-13s %d messages, %s", escapeText(l.Name), l.Messages, ofMost(l.Bytes, l.MaxBytes))
	if l.OldestAt != "" {
		text += ", since " + l.OldestAt
	}
	return text
}

// ofMost is a size, and of its limit where there is one.
func ofMost(bytes uint64, most int64) string {
	if most <= 0 {
		return size(bytes)
	}
	return fmt.Sprintf("%s of %s (%.0f %%)", size(bytes), size(uint64(most)), 100*float64(bytes)/float64(most))
}

func size(bytes uint64) string {
	value, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

func perSecond(rate float64) string { return fmt.Sprintf("%.1f/s", rate) }

// seconds is a duration for people: without what does not count beside its size.
func seconds(s float64) string {
	d := time.Duration(min(s, 1e9) * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= time.Minute:
		return shortDuration(d.Round(time.Second))
	default:
		return d.Round(100 * time.Millisecond).String()
	}
}
