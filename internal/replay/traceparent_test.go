package replay

import (
	"maps"
	"slices"
	"testing"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// A replay carries the original's trace context on, where it is one, and beside it
// nothing that it would not carry without.
func TestReplayCarriesTheTraceparent(t *testing.T) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	replayed := func(traceparent string) map[string]string {
		l := letter(deadletter.Rejected)
		stored := newLetter(7, "e", l.StreamSubject(), nil, []byte(body), l.DeadAt)
		stored.Letter = l
		stored.Traceparent = traceparent
		return headerOf(stored, "req-1", Permission{})
	}
	without := slices.Sorted(maps.Keys(replayed("")))
	for given, want := range map[string]string{
		valid: valid, "": "", "00-1": "", valid + "\r\nNats-Rollup: all": "", "cc" + valid[2:] + "-later": valid,
	} {
		header := replayed(given)
		if got := header["traceparent"]; got != want {
			t.Errorf("%q goes out as %q, want %q", given, got, want)
		}
		delete(header, "traceparent")
		if got := slices.Sorted(maps.Keys(header)); !slices.Equal(got, without) {
			t.Errorf("%q goes out with %v, want %v", given, got, without)
		}
	}
}
