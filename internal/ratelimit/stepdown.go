package ratelimit

import "time"

// How the rate answers to refusals. Each is answered by a breath at once, in which
// the server's bucket refills. A refusal cuts the rate by a little; refusals that go
// on, interval after interval, cut it by half of their share, a storm by half. Then it is
// held, and recovers: fast while well below the rate that was refused for long, slowly
// near it and above, until that was too long ago to mean anything. So a server that had
// a hiccup is not taken for one with a lower limit. Simulated use of the limit: 99.9 %
// of an unknown 800/s (TestLocalFindsAnUnknownLimit), 98 % of one that stalls for up
// to 50 ms every five seconds (TestServerThatStalls).
const (
	adjustEvery = 300 * time.Millisecond
	trickleCut  = 0.005
	stormCut    = 0.5
	stormShare  = 0.3  // of the permits of one adjustment interval that were refused
	lastingFor  = 3    // intervals in a row with at least stormLeast and lastingPart refused
	lastingPart = 0.02 // share of an interval's permits
	stormLeast  = 5    // refusals in one interval, below which it is a trickle
	holdFor     = 2 * time.Second
	recoverStep = 0.005  // of the configured rate, each adjustEvery
	probeStep   = 0.0002 // the same, from nearRefused of the refused rate on
	nearRefused = 0.99
	trustFor    = time.Minute // how long the refused rate is kept in mind

	// breath is how long no permits are scheduled after a refusal: at the rate it
	// refills most of a bucket of 20 there. At most one every breathEvery, a round trip.
	breath      = 15 * time.Millisecond
	breathEvery = 150 * time.Millisecond

	// lateAnswers is how long after a large cut refusals are taken for answers to what
	// was sent before it: they cut a little only, and do not tell the refused rate.
	lateAnswers = time.Second

	leastRate = 1.0 // a second: the rate never falls below, so that recovery can be seen
)

// stepDown is the rate in force and what it was drawn from. It says nothing of time
// by itself: whoever holds it passes the time, always of one and the same clock. Its
// fields are exported for encoding/json only.
type stepDown struct {
	Configured float64   `json:"configured"` // requests a second
	Rate       float64   `json:"rate"`       // in force
	Interval   time.Time `json:"interval"`   // start of the current adjustment interval
	Leased     int       `json:"leased"`     // permits in this interval
	Refused    int       `json:"refused"`    // rate refusals in this interval
	Lasting    int       `json:"lasting"`    // intervals in a row with many refusals
	Breathed   time.Time `json:"breathed"`   // time of the last breath
	Known      float64   `json:"known"`      // rate that Stripe last refused for long
	CutAt      time.Time `json:"cut_at"`     // time of the last large cut
	Held       time.Time `json:"held"`       // no recovery before
}

func newStepDown(perSecond float64) stepDown {
	return stepDown{Configured: perSecond, Rate: perSecond, Known: perSecond}
}

// refuse counts refusals, and reports whether a breath is due.
func (s *stepDown) refuse(now time.Time, refusals int) (breathe bool) {
	s.adjust(now)
	s.Refused += refusals
	s.Held = now.Add(holdFor)
	if now.Sub(s.Breathed) < breathEvery {
		return false
	}
	s.Breathed = now
	return true
}

// adjust closes the interval if it is over, and draws its consequence.
func (s *stepDown) adjust(now time.Time) {
	if s.Interval.IsZero() {
		s.Interval = now
	}
	if now.Sub(s.Interval) < adjustEvery {
		return
	}
	if s.Refused > 0 {
		s.Rate *= 1 - s.cut(now)
	} else {
		s.Lasting = 0
		s.raise(now)
	}
	s.bound()
	s.Interval, s.Leased, s.Refused = now, 0, 0
}

// bound keeps the rate between the least and the configured one.
func (s *stepDown) bound() {
	s.Rate = min(max(s.Rate, min(leastRate, s.Configured)), s.Configured)
}

// cut is the share of the rate that the interval's refusals cost.
func (s *stepDown) cut(now time.Time) float64 {
	share := float64(s.Refused) / float64(max(s.Leased, 1))
	late := now.Sub(s.CutAt) < lateAnswers
	if s.Known < s.Configured && !late {
		s.Known = s.Rate // a lower limit is known: this is where it is
	}
	if s.Refused < stormLeast || share < lastingPart {
		s.Lasting = 0
		return trickleCut
	}
	s.Lasting++
	storm := share >= stormShare
	if late || !storm && s.Lasting < lastingFor {
		return trickleCut
	}
	s.CutAt, s.Known, s.Lasting = now, s.Rate, 0
	if storm {
		return stormCut
	}
	s.Known *= 1 - share/4
	return max(share/2, trickleCut)
}

// raise lifts the rate by a step for each adjustEvery since the hold ended.
func (s *stepDown) raise(now time.Time) {
	from := later(s.Interval, s.Held)
	if now.Sub(s.Held) > trustFor {
		s.Known = s.Configured
	}
	steps := float64(max(now.Sub(from), 0)) / float64(adjustEvery)
	fast := max(nearRefused*s.Known-s.Rate, 0)
	if quick := steps * recoverStep * s.Configured; quick <= fast {
		s.Rate += quick
		return
	}
	steps -= fast / (recoverStep * s.Configured)
	s.Rate += fast + steps*probeStep*s.Configured
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
