package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// print writes the books for people.
func (b *demoBooks) print(out io.Writer) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("published\t%s\t", thousands(b.Published))
	line("= delivered\t%s\t", thousands(b.Delivered))
	line("+ duplicates\t%s\t", thousands(b.Duplicates))
	line("+ dead letters\t%s\t", thousands(b.Dead))
	line("lost\t%s\t", thousands(b.Lost))
	line("billed twice\t%s\t", thousands(b.Double))
	_ = w.Flush() // a strings.Builder takes everything
	fmt.Fprintf(&text, "\nStripe: %s requests in %.1f s, at most %s in one second (1,000/s, burst 20)\n",
		thousands(int(b.Requests)), b.Seconds, thousands(b.PeakPerSecond))
	fmt.Fprintf(&text, "429 for the rate: %d; 429 and 409 for one object: %d; calls beside another for the same customer and meter: %d\n",
		b.RateLimited, b.Contended, b.Violations)
	text.WriteString("\n" + listed("dead letters", b.DeadLetters, func(n int) string { return thousands(n) }))
	if b.DeadLetters[deadletter.RejectedLater] > 0 {
		text.WriteString("rejected_later: Stripe answered 200, and rejected them afterwards by webhook; they count as dead, not as delivered\n")
	}
	text.WriteString("\n" + listed("units", b.Meters, func(m demoMeter) string {
		return fmt.Sprintf("%s (%s events)", thousands(int(m.Units)), thousands(m.Events))
	}))
	text.WriteString("\n" + listed("faults played", b.Faults, func(n int64) string { return thousands(int(n)) }))
	text.WriteString(b.verdict())
	_, err := io.WriteString(out, text.String())
	return err
}

// verdict is the end of the books: the differences, or what to do next.
func (b *demoBooks) verdict() string {
	if !b.Balanced {
		return "\nThe books do not balance:\n  " + strings.Join(b.Differences, "\n  ") + "\n"
	}
	return `
The books balance: every message is at Stripe once, or recognised as a repeat, or a dead letter with its
reason, checked by identifier and units.

Next, in three terminals:
  meterworker simulate
  STRIPE_API_KEY=sk_test_x STRIPE_API_BASE=http://127.0.0.1:12111 meterworker run
  meterworker publish --event-name api_calls --customer cus_123 --value 1
`
}

// listed is a title and a line for each entry, by name.
func listed[K ~string, V any](title string, entries map[K]V, show func(V) string) string {
	var text strings.Builder
	text.WriteString(title + "\n")
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", escapeText(string(name)), show(entries[name]))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return text.String()
}

// thousands groups the digits: 5,000.
func thousands(n int) string {
	digits, sign := strconv.Itoa(n), ""
	if n < 0 {
		digits, sign = digits[1:], "-"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
