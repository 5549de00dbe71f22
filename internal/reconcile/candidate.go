package reconcile

import (
	"github.com/meterworker/meterworker/internal/meters"
	"github.com/meterworker/meterworker/usage"
)

// Kind is what a candidate is. The list is closed: see [Kinds].
type Kind string

// The kinds of what can explain a difference.
const (
	RejectedLater  Kind = "rejected_later"      // a dead letter: Stripe took the event and rejected it afterwards
	UnknownOutcome Kind = "unknown_outcome"     // a dead letter that Stripe may have counted
	ByHand         Kind = "by_hand"             // such a letter that was discarded, edited or replayed since
	InFlight       Kind = "in_flight"           // an event that may have been sent and has no final record
	Conflict       Kind = "identifier_conflict" // a dead letter whose identifier another sender has used
	Delivered      Kind = "delivered"           // an event whose loss would make the difference
	Unnamed        Kind = "unnamed_rejections"  // rejections that Stripe reported without naming them
	ForeignSender  Kind = "foreign_sender"      // usage that was not sent by us
	NoMeter        Kind = "no_meter"            // Stripe has no meter, or no active one, of that event name
)

// Kinds returns the closed list.
func Kinds() []Kind {
	return []Kind{RejectedLater, UnknownOutcome, ByHand, InFlight, Conflict, Delivered, Unnamed, ForeignSender, NoMeter}
}

// Candidate is something that can explain a difference, or a part of it.
type Candidate struct {
	Kind       Kind
	Letter     uint64 // its id in the dead letters; 0: it is none
	Sequence   uint64 // in the outbox; 0: it is no message
	Identifier string
	Units      int64
	Count      int    // how many it stands for; 1 of an event
	Reason     string // of a dead letter
	Code       string // Stripe's
	Timestamp  int64

	unread bool // its units are not known
}

func candidateOf(kind Kind, m Message, event usage.Event) Candidate {
	return Candidate{Kind: kind, Sequence: m.Sequence, Identifier: event.Identifier(), Units: event.Units(), Count: 1, Timestamp: event.Timestamp()}
}

// weight is what the event adds to the meter's sum.
func (c Candidate) weight(f meters.Formula) int64 {
	one := sum{c.Units, 1}
	return one.by(f)
}

// want is what the last reading looks for in one cell: events whose loss would make the difference
// of their minute.
type want struct {
	formula meters.Formula
	missing [minutesPerHour]int64 // by minute; 0 where nothing is missing

	found []Candidate
	more  int
}

// mostFound bounds the events that one difference names.
const mostFound = 20

func (w *want) offer(minute int, m Message, event usage.Event) {
	c := candidateOf(Delivered, m, event)
	if missing := w.missing[minute]; missing == 0 || c.weight(w.formula) != missing {
		return
	}
	if len(w.found) == mostFound {
		w.more++
		return
	}
	w.found = append(w.found, c)
}
