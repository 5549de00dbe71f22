package webhook

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// letter is the case file of usage that was rejected later.
func (m match) letter(r Report, now time.Time) deadletter.Letter {
	outcome, doubt := deadletter.Refused, ""
	switch {
	case m.several:
		outcome, doubt = deadletter.Unknown, "; the identifier fits several messages, and the report does not say which"
	case !Known(m.rejection.Code):
		outcome, doubt = deadletter.Unknown, "; whether Stripe has counted it is not known of this code"
	}
	detail := m.rejection.Message
	if detail == "" {
		detail = r.Summary
	}
	return deadletter.Letter{
		Reason: deadletter.RejectedLater, Outcome: outcome, Detail: detail + doubt,
		Code: m.rejection.Code, Status: 200, RequestID: m.rejection.Request, Attempts: 1,
		LastAttempt: m.fate.at, DeadAt: now, Subject: m.message.Subject, Sequence: m.message.Sequence,
		StoredAt: m.message.StoredAt, Identifier: m.event.identifier, Timestamp: m.event.timestamp,
		Replays: replays(m.message), Traceparent: usage.Traceparent(m.message.Header),
	}
}

// replays is how often the message was replayed before.
func replays(m Message) int {
	if !strings.HasPrefix(m.Subject, "usage.replay.") {
		return 0
	}
	n, err := strconv.Atoi(m.Header(deadletter.HeaderReplays))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// settle sees to it that the message has one letter. open: its delivery is still under
// way, so that it has to be looked at again.
func (w *Worker) settle(ctx context.Context, id string, r Report, m match) (open bool, err error) {
	switch {
	case m.fate.state == journal.Dead: // it lies before a person already, or has lain
		return false, nil
	case m.fate.state != journal.Delivered:
		return true, nil
	}
	named, err := w.inbox.Named(ctx, m.message.Sequence)
	if named || err != nil {
		return false, err
	}
	l := m.letter(r, time.Now())
	// An earlier try, or another report about the same usage, may have come this far.
	stored, err := w.letters.Stored(ctx, l, m.fate.at)
	if err != nil {
		return false, err
	}
	if stored {
		return false, w.inbox.Name(ctx, m.message.Sequence, id)
	}
	if err := w.letters.Publish(ctx, l, l.Header(), m.message.Body); err != nil {
		return false, fmt.Errorf("letter of %d: %w", m.message.Sequence, err)
	}
	w.counts.Letter(string(l.Reason))
	return false, w.inbox.Name(ctx, m.message.Sequence, id)
}
