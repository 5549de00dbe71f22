package sim

import (
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
)

// books are what is known for certain: of attempts, from both of their ends, and of the
// journal, from its stream. Guarded by w.mu.
type books struct {
	w         *world
	tries     map[string][]*try // by identity, in order
	answers   map[string]bool   // Idempotency-Keys that got an HTTP error
	readers   map[int]*reader   // by partition
	announced map[uint64]bool   // messages of which the dead letter was announced
	forgiven  map[string]int    // replays for which a person accepted a double bill, by identity
}

// try is one request, from its first byte on.
type try struct {
	content
	life        *life
	sequence    uint64
	idempotency string
	at          time.Time // of the first byte
	definite    bool      // its answer says that it was not counted
	under       bool      // under way
	unheard     bool      // no answer came, or nobody was there to hear it
	permitted   bool      // a permit was spent for it
}

// attempts is what one life did for one message since it has it in hand.
type attempts struct {
	key      uint64
	open     bool           // an intent is stored
	doubtful bool           // an attempt may have been counted
	failed   int            // 5xx and answers outside the contract
	giveUp   bool           // Stripe would rather not see it again
	last     delivery.Class // of the last answer
	used     string         // last Idempotency-Key
}

func newBooks(w *world) *books {
	return &books{w: w, tries: map[string][]*try{}, answers: map[string]bool{}, readers: map[int]*reader{}, forgiven: map[string]int{}, announced: map[uint64]bool{}}
}

// of is what the life did for the message. w.mu is held.
func (l *life) of(sequence uint64) *attempts {
	a, ok := l.attempts[sequence]
	if !ok {
		a = &attempts{}
		l.attempts[sequence] = a
	}
	return a
}

func (a *attempts) intended(key uint64) { a.key, a.open = key, true }

// settle forgets: the message has left the life's hands.
func (a *attempts) settle() { *a = attempts{} }

// firstByte looks at what must hold when a request is about to be written.
func (b *books) firstByte(t *try) error {
	w := b.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.life.dead {
		return errDead
	}
	t.at, t.under = time.Now(), true
	w.note(t.life.number, "writes its request", t.sequence, t.idempotency)
	b.oneAtATime(t)
	b.withPermit(t)
	b.withIntent(t)
	b.sameKey(t)
	b.inTime(t)
	b.sameContent(t)
	b.tries[t.identity()] = append(b.tries[t.identity()], t)
	return nil
}

// oneAtATime is I7: one request in flight for a customer and meter; between two lives
// only a take-over may break it.
func (b *books) oneAtATime(t *try) {
	alone := b.alone(t)
	if t.life.running[alone]++; t.life.running[alone] > 1 {
		b.w.violate("I7", "life %d has %d requests in flight for %s", t.life.number, t.life.running[alone], alone)
	}
}

// alone is what may have one request in flight: over API v2 an identifier.
func (b *books) alone(t *try) string {
	if b.w.stream {
		return t.identity()
	}
	return t.lane()
}

// another is the try for the same attempt. Only a request that was surely not executed is
// repeated: a batch that was refused, or had an expired session.
func (b *books) another(t *try) *try {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if t.at.IsZero() {
		return t
	}
	t.definite = true
	if t.under {
		t.life.running[b.alone(t)]--
		t.under = false
	}
	return &try{life: t.life, sequence: t.sequence, idempotency: t.idempotency, content: t.content}
}

// withPermit is a part of I6, one permit a request, and of I11, no more than three requests
// once the set-up was refused.
func (b *books) withPermit(t *try) {
	l := t.life
	if l.asked++; !t.permitted {
		b.w.violate("I6", "life %d makes a request for message %d without a permit", l.number, t.sequence)
	}
	if !l.refusedAt.IsZero() && time.Now().After(l.refusedAt) {
		if l.afterwards++; l.afterwards > 3 {
			b.w.violate("I11", "life %d makes %d requests after its set-up was refused", l.number, l.afterwards)
		}
	}
}

// withIntent is the half of I3 that comes before the request.
func (b *books) withIntent(t *try) {
	m := b.w.outbox.messages
	if t.sequence == 0 || t.sequence > uint64(len(m)) {
		b.w.violate("I3", "the request with key %q is for no message", t.idempotency)
		return
	}
	if !t.life.of(t.sequence).open || !b.reader(m[t.sequence-1].partition).intended[t.sequence] {
		b.w.violate("I3", "message %d is sent before an intent is stored", t.sequence)
	}
}

// sameKey is the key rule: the Idempotency-Key stays after no answer, and changes
// after any HTTP error.
func (b *books) sameKey(t *try) {
	a := t.life.of(t.sequence)
	if b.answers[t.idempotency] {
		b.w.violate("I5", "message %d is sent with an Idempotency-Key that got an HTTP error: %s", t.sequence, t.idempotency)
	}
	if a.last == delivery.NoAnswer && a.used != t.idempotency {
		b.w.violate("I5", "message %d got no answer, and another Idempotency-Key: %s", t.sequence, t.idempotency)
	}
	a.used = t.idempotency
}

// inTime is I4: nothing is sent past the safe window of an attempt that may have been
// counted, unless a person has taken the risk.
func (b *books) inTime(t *try) {
	m := b.w.outbox.messages[max(t.sequence, 1)-1]
	for _, earlier := range b.tries[t.identity()] {
		accepted := m.expect.accepts && earlier.sequence < t.sequence
		if age := t.at.Sub(earlier.at); !earlier.definite && !accepted && age >= safeWindow {
			b.w.violate("I4", "message %d is sent %v after an attempt (message %d, life %d) that may have been counted",
				t.sequence, age, earlier.sequence, earlier.life.number)
			return
		}
	}
}

// sameContent is I5: what is sent is what was published, to the second.
func (b *books) sameContent(t *try) {
	if m := b.w.outbox.messages[max(t.sequence, 1)-1]; t.content != m.expect.content {
		b.w.violate("I5", "message %d says %+v, sent is %+v", t.sequence, m.expect.content, t.content)
	}
}

// answered draws the conclusions of an answer. w.mu is held.
func (b *books) answered(t *try, answer delivery.Answer, alive bool) {
	l := t.life
	b.w.seen.note("class: " + answer.Class.String())
	b.w.note(l.number, "takes it for "+answer.Class.String(), t.sequence, answer.Detail)
	if t.under {
		l.running[b.alone(t)]--
		t.under = false
	}
	t.unheard = !alive || answer.Class == delivery.NoAnswer
	if !alive {
		return
	}
	a := l.of(t.sequence)
	a.last, a.giveUp = answer.Class, answer.ShouldRetry == delivery.RetryNo
	t.definite = !answer.Class.MayHaveCounted() && answer.Class != delivery.Accepted
	a.doubtful = a.doubtful || !t.definite && !t.at.IsZero()
	if answer.Status >= 300 && answer.Class != delivery.NoAnswer {
		b.answers[t.idempotency] = true
	}
	switch answer.Class {
	case delivery.ServerFault, delivery.Unexpected:
		if a.failed++; a.failed > delivery.MaxAttempts {
			b.w.violate("I9", "message %d: Stripe has failed on it %d times", t.sequence, a.failed)
		}
	case delivery.SetupFault, delivery.ForeignReply:
		if l.refusedAt.IsZero() && t.at.After(l.mendedAt) { // else it is about an earlier key
			l.refusedAt, l.afterwards = time.Now(), 0
		}
	case delivery.Accepted, delivery.Duplicate, delivery.Refused, delivery.Throttled, delivery.Contended, delivery.NoAnswer, delivery.NotSent:
	}
}

// mended says that the set-up of the life is right again. w.mu is held.
func (l *life) mended() { l.mendedAt, l.refusedAt, l.afterwards = time.Now(), time.Time{}, 0 }

// dying looks at a dead letter when it is announced: I8, I9 and I10. w.mu is held.
func (b *books) dying(l *life, sequence uint64, reason deadletter.Reason) {
	a := l.of(sequence)
	if b.announced[sequence] {
		return // by a former owner, or once more
	}
	b.announced[sequence] = true
	b.rightly(sequence, a.last, reason)
	if l.dead || reason != deadletter.ServerError && reason != deadletter.UnexpectedResponse {
		return
	}
	if a.failed < delivery.MaxAttempts && !a.giveUp {
		b.w.violate("I8", "message %d dies as %s, and Stripe has failed on it %d times only", sequence, reason, a.failed)
	}
	if l.state != delivery.StateClosed && l.state != delivery.StatePaused && l.stateAt.Before(time.Now()) {
		b.w.violate("I9", "message %d dies as %s while the breaker is %s", sequence, reason, l.state)
	}
	if time.Now().Before(b.w.stripe.downTill) {
		if l.buriedIn[b.w.stripe.outages]++; l.buriedIn[b.w.stripe.outages] > mostBuried && len(delivery.States()) > 2 {
			b.w.violate("I10", "life %d buries %d messages in one outage", l.number, l.buriedIn[b.w.stripe.outages])
		}
	}
}

// rightly holds a dead letter's reason against the last answer: I8 and I11. w.mu is held.
func (b *books) rightly(sequence uint64, last delivery.Class, reason deadletter.Reason) {
	if reason == deadletter.Panic {
		return
	}
	switch last {
	case delivery.Throttled, delivery.Contended:
		b.w.violate("I8", "message %d dies as %s of an answer %s", sequence, reason, last)
	case delivery.SetupFault, delivery.ForeignReply:
		b.w.violate("I11", "message %d dies as %s of an answer %s", sequence, reason, last)
	case delivery.Duplicate:
		if reason != deadletter.IdentifierConflict {
			b.w.violate("I1", "message %d dies as %s, and Stripe has its identifier", sequence, reason)
		}
	case delivery.Accepted:
		b.w.violate("I1", "message %d dies as %s, and Stripe has accepted it", sequence, reason)
	case delivery.Refused, delivery.ServerFault, delivery.Unexpected, delivery.NoAnswer, delivery.NotSent:
	}
}

// mostBuried is how many dead letters one worker may add while Stripe is down.
const mostBuried = 20

// acked looks at an ack: I3. w.mu is held.
func (b *books) acked(l *life, m *stored) {
	if l.dead {
		return
	}
	r := b.reader(m.partition)
	b.read(m.partition)
	state, known := r.terminal[m.sequence]
	if known && state == journal.Dead && !b.w.letters.stored[m.sequence] {
		b.w.violate("I3", "message %d is recorded as dead, and its letter was never stored", m.sequence)
	}
	if !known && !r.delivered[r.keys[m.sequence]] && !r.delivered[m.expect.key] {
		b.w.violate("I3", "message %d is acked without a terminal record", m.sequence)
	}
}

// again is told of every event that Stripe counts once more. w.mu is held.
func (b *books) again(identity string) {
	if n := len(b.w.stripe.counted[identity]); n > 1+b.forgiven[identity] {
		b.w.violate("I2", "double: Stripe has counted %s %d times", identity, n)
	}
}
