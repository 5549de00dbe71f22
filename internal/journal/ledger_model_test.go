package journal

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is all that a journal says, oldest first: the ledger in plain words. A
// sequence has one body, as in an outbox.
type history []record

func bodyOf(sequence uint64) uint64 { return 500 + sequence }

// drawHistory draws records of a few sequences, identifiers and contents, so that they
// get in each other's way.
func drawHistory(t *rapid.T) history {
	h := make(history, rapid.IntRange(0, 14).Draw(t, "records"))
	ages := rapid.SliceOfN(rapid.IntRange(0, 40), len(h), len(h)).Draw(t, "hours ago")
	slices.Sort(ages)
	slices.Reverse(ages)
	for i := range h {
		e := Entry{
			Sequence: rapid.SampledFrom([]uint64{3, 4, self, 9}).Draw(t, "sequence"), Key: rapid.SampledFrom([]uint64{key, key + 1}).Draw(t, "key"),
			Fingerprint: rapid.SampledFrom([]uint32{content, foreign}).Draw(t, "content"),
			State:       rapid.SampledFrom([]State{NotSent, Delivered, Unknown, Dying, Dead}).Draw(t, "state"),
		}
		ago := time.Duration(ages[i]) * time.Hour
		switch e.State {
		case Unknown:
			e.T0 = noon.Add(-ago - time.Duration(rapid.IntRange(0, 20).Draw(t, "hours in doubt"))*time.Hour)
		case Dying, Dead:
			e.Key = bodyOf(e.Sequence)
			e.Letter = []byte{byte(i)}
		case Open, NotSent, Delivered:
		}
		h[i] = record{e, ago}
	}
	return h
}

// last is the index of the last record that is so, or -1.
func (h history) last(is func(Entry) bool) int {
	for i, r := range slices.Backward(h) {
		if is(r.entry) {
			return i
		}
	}
	return -1
}

// known is the answer by the definitions.
func (h history) known(q Question) Known {
	dying := h.last(func(e Entry) bool { return e.State == Dying && e.Sequence == q.Sequence })
	dead := h.last(func(e Entry) bool { return e.State == Dead && e.Sequence == q.Sequence })
	accepted := h.last(func(e Entry) bool { return e.State == Delivered && e.Key == q.Key })
	switch {
	case dying > dead:
		return Known{Verdict: IsDying, Letter: h[dying].entry.Letter, DyingAt: ago(h[dying].ago)}
	case dead >= 0:
		return Known{Verdict: WasBuried}
	case accepted < 0:
		return h.doubts(q)
	}
	by := h[accepted].entry
	switch {
	case by.Sequence == q.Sequence:
		return Known{Verdict: WasDelivered, By: by.Sequence}
	case by.Fingerprint == q.Fingerprint:
		return Known{Verdict: DeliveredBefore, By: by.Sequence}
	default:
		return Known{Verdict: OtherContent, By: by.Sequence}
	}
}

// doubts is the answer where nothing was delivered: one attempt a sequence, the first
// one's content, and its oldest time. A message's content never changes.
func (h history) doubts(q Question) Known {
	known := Known{Verdict: Fresh}
	var oldest, alive []time.Duration
	for _, sequence := range []uint64{3, 4, self, 9} {
		var same bool
		var ages []time.Duration
		for _, r := range h {
			if r.entry.State == Unknown && r.entry.Sequence == sequence && r.entry.Key == q.Key {
				if len(ages) == 0 {
					same = r.entry.Fingerprint == q.Fingerprint
				}
				ages = append(ages, noon.Sub(r.entry.T0))
			}
		}
		if len(ages) == 0 {
			continue
		}
		age := slices.Max(ages)
		oldest = append(oldest, age)
		known.Unknown = true
		known.SameContent = known.SameContent || same
		known.OtherContent = known.OtherContent || !same
		buried := h.last(func(e Entry) bool { return e.State == Dead && e.Sequence == sequence }) >= 0
		if !same && !buried {
			alive = append(alive, age)
		}
	}
	if known.Unknown {
		known.Oldest = ago(slices.Max(oldest))
	}
	if len(alive) > 0 {
		known.OtherAlive = ago(slices.Min(alive))
	}
	return known
}

// The ledger says what the journal says, in whatever order the records came and
// wherever a restart read them.
func TestLedgerAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		restarted := rapid.IntRange(0, len(h)).Draw(t, "read before the claim")
		l := newLedger()
		for i, r := range h {
			if i == restarted {
				l.settle(claimedAt(noon, 0))
			}
			l.apply(r.entry, noon.Add(-r.ago))
		}
		l.settle(claimedAt(noon, 0))
		for _, sequence := range []uint64{3, 4, self, 9, 12} {
			for _, k := range []uint64{key, key + 1, key + 2} {
				q := ask()
				q.Sequence, q.Key, q.Body = sequence, k, bodyOf(sequence)
				expectKnown(t, l.Lookup(q, clocks(0, 0)), h.known(q))
			}
		}
	})
}

// What was delivered, or may have been, is never taken for new, however much of it the
// ledger has dropped: an event with a timestamp that Stripe would take is recognised,
// or known to be forgotten.
func TestNothingDeliveredIsFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger()
		l.settle(claimedAt(noon, 0))
		now := noon
		var asked []Question
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-10, 60*24*2).Draw(t, "minutes")) * time.Minute)
			q := Question{Sequence: uint64(i), Key: uint64(i), Body: bodyOf(uint64(i)), Fingerprint: content}
			ahead := time.Duration(rapid.IntRange(-35*24*60, 5).Draw(t, "timestamp in minutes")) * time.Minute
			switch rapid.SampledFrom([]string{"delivered", "unknown", "expire", "shrink"}).Draw(t, "step") {
			case "delivered":
				l.apply(Entry{Sequence: q.Sequence, Key: q.Key, Fingerprint: content, State: Delivered}, now)
				q.EventTime = now.Add(ahead)
				asked = append(asked, q)
			case "unknown":
				t0 := now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "minutes in doubt")) * time.Minute)
				l.apply(Entry{Sequence: q.Sequence, Key: q.Key, Fingerprint: content, State: Unknown, T0: t0}, now)
				q.EventTime = t0.Add(ahead)
				asked = append(asked, q)
			case "expire":
				l.Expire(now, time.Duration(rapid.IntRange(25, 36*24).Draw(t, "window in hours"))*time.Hour)
			case "shrink":
				_, _ = l.Shrink(int64(rapid.IntRange(0, 500).Draw(t, "bytes")), now) // too young to go is fine
			}
		}
		for _, q := range asked {
			q.Sequence += 1000 // as another message
			known := l.Lookup(q, now)
			if known.Verdict == Fresh && !known.Unknown {
				t.Fatalf("%+v is new: %+v; the ledger ends at %v", q, known, l.Horizon())
			}
		}
	})
}
