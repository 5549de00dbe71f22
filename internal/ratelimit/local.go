package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

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

	// breath is how long no permits are granted after a refusal: at the rate it refills
	// most of a bucket of 20 there. At most one every breathEvery, a round trip.
	breath      = 15 * time.Millisecond
	breathEvery = 150 * time.Millisecond

	// lateAnswers is how long after a large cut refusals are taken for answers to what
	// was sent before it: they cut a little only, and do not tell the refused rate.
	lateAnswers = time.Second

	leastRate = 1.0 // a second: the rate never falls below, so that recovery can be seen
)

// Local is the [Lessor] of a single process: the whole rate is its own.
type Local struct {
	mu         sync.Mutex
	configured float64
	current    float64
	interval   time.Time // start of the current adjustment interval
	leased     int       // permits in this interval
	refused    int       // rate refusals in this interval
	lasting    int       // intervals in a row with many refusals
	breathed   time.Time // time of the last breath
	ceiling    float64   // rate that Stripe last refused for long
	cutAt      time.Time // time of the last large cut
	held       time.Time // no recovery before
	paused     time.Time // no permits before
}

// NewLocal returns a lessor for a rate in requests a second.
func NewLocal(perSecond float64) *Local {
	return &Local{configured: perSecond, current: perSecond, ceiling: perSecond}
}

// localLease is the length of a lease: short, so that a change of the rate and a
// pause take effect soon.
const localLease = 50 * time.Millisecond

// Lease implements [Lessor].
func (l *Local) Lease(ctx context.Context, want int) (Lease, error) {
	for {
		lease, wait := l.lease(time.Now(), want)
		if wait == 0 {
			return lease, nil
		}
		pause(ctx, wait, nil)
		if ctx.Err() != nil {
			return Lease{}, fmt.Errorf("waiting for a lease: %w", ctx.Err())
		}
	}
}

func (l *Local) lease(now time.Time, want int) (lease Lease, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.paused) {
		return Lease{}, l.paused.Sub(now)
	}
	l.adjust(now)
	permits := min(want, max(1, int(l.current*localLease.Seconds())))
	l.leased += permits
	// The slot ends late, so that the last permit is not lost to rounding, and a slow
	// rate gets its one permit.
	length := 2 * max(localLease, time.Duration(float64(time.Second)/l.current))
	return Lease{Permits: permits, Rate: l.current, Until: now.Add(length)}, 0
}

// Throttled implements [Lessor].
func (l *Local) Throttled(now time.Time, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adjust(now)
	l.refused++
	l.held = now.Add(holdFor)
	wait := min(retryAfter, MaxPause)
	if wait <= 0 && now.Sub(l.breathed) >= breathEvery {
		wait, l.breathed = breath, now
	}
	if until := now.Add(wait); wait > 0 && until.After(l.paused) {
		l.paused = until
	}
}

// Rate is the rate in force, in requests a second.
func (l *Local) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// adjust closes the interval if it is over, and draws its consequence.
func (l *Local) adjust(now time.Time) {
	if l.interval.IsZero() {
		l.interval = now
	}
	if now.Sub(l.interval) < adjustEvery {
		return
	}
	if l.refused > 0 {
		l.current *= 1 - l.cut(now)
	} else {
		l.lasting = 0
		l.raise(now)
	}
	l.current = min(max(l.current, min(leastRate, l.configured)), l.configured)
	l.interval, l.leased, l.refused = now, 0, 0
}

// cut is the share of the rate that the interval's refusals cost.
func (l *Local) cut(now time.Time) float64 {
	share := float64(l.refused) / float64(max(l.leased, 1))
	late := now.Sub(l.cutAt) < lateAnswers
	if l.ceiling < l.configured && !late {
		l.ceiling = l.current // a lower limit is known: this is where it is
	}
	if l.refused < stormLeast || share < lastingPart {
		l.lasting = 0
		return trickleCut
	}
	l.lasting++
	storm := share >= stormShare
	if late || !storm && l.lasting < lastingFor {
		return trickleCut
	}
	l.cutAt, l.ceiling, l.lasting = now, l.current, 0
	if storm {
		return stormCut
	}
	l.ceiling *= 1 - share/4
	return max(share/2, trickleCut)
}

// raise lifts the rate by a step for each adjustEvery since the hold ended.
func (l *Local) raise(now time.Time) {
	from := l.interval
	if l.held.After(from) {
		from = l.held
	}
	if now.Sub(l.held) > trustFor {
		l.ceiling = l.configured
	}
	steps := float64(max(now.Sub(from), 0)) / float64(adjustEvery)
	fast := max(nearRefused*l.ceiling-l.current, 0)
	if quick := steps * recoverStep * l.configured; quick <= fast {
		l.current += quick
		return
	}
	steps -= fast / (recoverStep * l.configured)
	l.current += fast + steps*probeStep*l.configured
}
