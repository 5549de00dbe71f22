package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/journal"
)

// otherFirst is how long a message waits while an attempt with other content
// under the same identifier is still undecided.
const otherFirst = 2 * time.Second

// consult asks the ledger. It returns how to settle the message at once, or nil
// to go on.
func (d *delivery) consult(stop context.Context) func() Disposition {
	if end := d.judge(stop, time.Unix(d.event.Timestamp(), 0)); end != nil {
		return end
	}
	return d.weigh(stop)
}

// judge draws the conclusion of what the ledger knows for certain.
func (d *delivery) judge(stop context.Context, eventTime time.Time) func() Disposition {
	d.lookup(eventTime)
	switch d.known.Verdict {
	case journal.WasDelivered:
		return func() Disposition { return d.ack(Delivered) }
	case journal.WasBuried:
		return func() Disposition { return d.ack(Buried) }
	case journal.IsDying:
		return func() Disposition { return d.buryAgain(stop) }
	case journal.DeliveredBefore:
		return d.duplicate
	case journal.OtherContent:
		return d.toBury(stop, deadletter.IdentifierConflict,
			"the identifier was delivered with other content as sequence "+strconv.FormatUint(d.known.By, 10))
	case journal.Forgotten:
		return d.toBury(stop, deadletter.Ambiguous,
			"the event is older than what the ledger still remembers; it may have been delivered before")
	case journal.Fresh:
	}
	return nil
}

// recorded settles a message that cannot be sent, or failed here, by what the
// journal already says of it; nil: nothing final.
func (d *delivery) recorded(stop context.Context) func() Disposition {
	end := d.judge(stop, d.message.StoredAt())
	switch d.known.Verdict {
	case journal.WasBuried, journal.IsDying, journal.WasDelivered, journal.DeliveredBefore:
		return end
	case journal.Fresh, journal.OtherContent, journal.Forgotten:
	}
	return nil
}

func (d *delivery) toBury(stop context.Context, reason deadletter.Reason, detail string) func() Disposition {
	return func() Disposition {
		d.letter.Detail = detail
		return d.bury(stop, reason)
	}
}

// safeWindow is how old an attempt of unknown outcome may be for the event to be sent
// again.
func (w *Worker) safeWindow() time.Duration {
	if faultpoint.Seeded(faultpoint.NoSafeWindow) {
		return math.MaxInt64
	}
	return w.cfg.SafeWindow
}

// pastWindow is the detail of an ambiguous dead letter.
const pastWindow = "an attempt that Stripe may have counted is older than the safe window"

// weigh looks at the attempts of unknown outcome.
func (d *delivery) weigh(stop context.Context) func() Disposition {
	now := time.Now()
	d.inherit(now)
	if d.known.Unknown && d.w.skew.age(d.known.Oldest, now) >= d.w.safeWindow() {
		return d.toBury(stop, deadletter.Ambiguous, pastWindow)
	}
	if !d.known.OtherAlive.IsZero() && d.w.skew.age(d.known.OtherAlive, now) < d.w.safeWindow() {
		return func() Disposition { return d.release(otherFirst) }
	}
	if d.w.cfg.Shared && d.known.OtherContent { // a duplicate is dropped in silence there, and would look like a delivery
		return d.toBury(stop, deadletter.IdentifierConflict,
			"an attempt with other content under this identifier may have been counted, and API v2 would not say which was")
	}
	return nil
}

// inherit puts into the case file that an earlier life may have sent the message:
// when at the earliest, and as one attempt, however many there were.
func (d *delivery) inherit(now time.Time) {
	if d.known.Own.IsZero() {
		return
	}
	d.letter.FirstAttempt = now.Add(-d.known.Own.Age(now))
	d.letter.LastAttempt = d.letter.FirstAttempt
	d.letter.Attempts = 1
}

func (d *delivery) lookup(eventTime time.Time) {
	d.known = d.journal.Lookup(journal.Question{
		Sequence: d.message.Sequence(), Key: d.key, Body: d.body, Fingerprint: d.fingerprint,
		EventTime: eventTime, Forgive: d.forgives(),
	})
	result := d.known.Verdict.String()
	if d.known.Verdict == journal.Fresh && d.known.Unknown {
		result = ResultUnknown
	}
	d.w.metrics.Lookups.WithLabelValues(result).Inc()
}

// ResultUnknown is the look-up result for an identifier with attempts of unknown
// outcome, beside the ledger's verdicts.
const ResultUnknown = "unknown"

const replaySubject = "usage.replay."

func (d *delivery) isReplay() bool { return strings.HasPrefix(d.message.Subject(), replaySubject) }

// forgives is the time before which a person has taken the risk of a double bill:
// that of the replay that says so. Only an operator may publish replays.
func (d *delivery) forgives() time.Time {
	if d.isReplay() && d.message.Header(deadletter.HeaderAcceptDoubleBilling) == "true" {
		return d.message.StoredAt()
	}
	return time.Time{}
}

func (d *delivery) replays() int {
	if !d.isReplay() {
		return 0
	}
	n, err := strconv.Atoi(d.message.Header(deadletter.HeaderReplays))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// hashBody tells bodies apart, and stands in for key and fingerprint where a
// message names no identifier.
func hashBody(body []byte) (hash uint64, fingerprint uint32) {
	sum := sha256.Sum256(body)
	return binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint32(sum[8:])
}

// readLetter reads the header block that a dying record keeps.
func readLetter(block []byte) (deadletter.Letter, map[string]string, error) {
	header, err := deadletter.Unpack(block)
	if err != nil {
		return deadletter.Letter{}, nil, errors.Join(errors.New("header block of a dying record"), err)
	}
	letter, err := deadletter.Read(func(name string) string { return header[name] })
	return letter, header, err // names the header
}
