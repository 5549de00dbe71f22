package delivery

import "github.com/meterworker/meterworker/internal/deadletter"

// Tracer watches messages on their way. It is called in the middle of it, so it never
// waits for anything.
type Tracer interface {
	// Receive begins the trace of a message that has come into this worker's hands:
	// [Untraced] where nobody wants one.
	Receive(m Message, partition int) Trace
}

// Trace is told of one message's way, step by step. Settled ends it, whatever was begun
// and not ended before.
type Trace interface {
	Attempt()                                // its turn has come, now for the permit
	Permitted()                              // the permit is there
	Attempted(answer Answer, refused string) // refused says why no request was made; "" where one was
	Settling()                               // decided, or handed back; only the first call counts
	Settled(d Disposition, reason deadletter.Reason, err error)
}

// Untraced is the trace that nobody follows.
var Untraced Trace = untraced{}

type untraced struct{}

func (untraced) Attempt()                                      {}
func (untraced) Permitted()                                    {}
func (untraced) Attempted(Answer, string)                      {}
func (untraced) Settling()                                     {}
func (untraced) Settled(Disposition, deadletter.Reason, error) {}

type noTracer struct{}

func (noTracer) Receive(Message, int) Trace { return Untraced }

// String is the refusal in a trace.
func (r refusal) String() string {
	switch r {
	case refusedStopped:
		return "stopped"
	case refusedAmbiguous:
		return "ambiguous"
	case refusedStale:
		return "stale"
	case refusedOutdated:
		return "outdated"
	case notRefused:
	}
	return ""
}
