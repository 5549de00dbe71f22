package webhook

import (
	"testing"
	"time"
)

// The letter of usage that was rejected later keeps the trace context of the original.
func TestRejectedLaterKeepsTheTraceparent(t *testing.T) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for given, want := range map[string]string{valid: valid, "00-1": "", "": ""} {
		header := map[string]string{"traceparent": given}
		m := match{message: Message{Subject: "usage.events.api_calls.cus_1", Header: func(name string) string { return header[name] }}}
		if got := m.letter(Report{}, time.Now()).Traceparent; got != want {
			t.Errorf("%q is kept as %q, want %q", given, got, want)
		}
	}
}
