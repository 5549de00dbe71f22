package main

import (
	"strings"
	"testing"

	"github.com/meterworker/meterworker/internal/outbox"
)

// What a declaration gives up is said for each stream and break; none is left to a
// default that speaks of another stream.
func TestConsequences(t *testing.T) {
	words := map[string]string{
		outbox.UsageStream: "publish it again", outbox.JournalStream: "ambiguous",
		outbox.DLQStream: "letters", outbox.DurableBucket: "pause orders",
	}
	for stream, word := range words {
		for _, b := range []outbox.Break{outbox.Gone, outbox.Anew, outbox.Behind, outbox.Replaced, outbox.Undone} {
			f := outbox.Finding{Stream: stream, Break: b}
			text := consequence(f)
			if f.Declarable() != nil {
				if !strings.HasPrefix(text, "it cannot be") || stream != outbox.UsageStream {
					t.Errorf("%s %s: %s", stream, b, text)
				}
				continue
			}
			if !strings.Contains(text, word) {
				t.Errorf("%s %s: %q does not say %q", stream, b, text, word)
			}
		}
	}
}

// A declaration without a reason is none, and one of what is not broken is refused.
func TestChoosing(t *testing.T) {
	behind := outbox.Finding{Stream: outbox.JournalStream, Break: outbox.Behind}
	gone := outbox.Finding{Stream: outbox.UsageStream, Break: outbox.Gone}
	for name, c := range map[string]struct {
		streams []string
		chosen  int
		problem string
	}{
		"looking":          {nil, 0, ""},
		"one":              {[]string{"USAGE_JOURNAL"}, 1, ""},
		"not broken":       {[]string{"USAGE_DLQ"}, 0, "nothing is to be declared"},
		"no such name":     {[]string{"usage"}, 0, "nothing is to be declared"},
		"not declarable":   {[]string{"USAGE"}, 0, "put a copy back"},
		"one of them only": {[]string{"USAGE_JOURNAL", "USAGE"}, 0, "put a copy back"},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, err := (&AcceptRestoredCmd{Stream: c.streams}).choose([]outbox.Finding{behind, gone})
			if len(chosen) != c.chosen || (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%d chosen, %v; want %d, %q", len(chosen), err, c.chosen, c.problem)
			}
		})
	}
}
