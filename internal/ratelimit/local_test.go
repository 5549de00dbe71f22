package ratelimit

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// interval leases as at a full rate for one adjustment interval, with refusals in
// it, and returns the time at which the next one begins.
func interval(l *Local, now time.Time, refusals int) time.Time {
	for i := range 6 {
		at := now.Add(time.Duration(i) * slotLength)
		l.lease(at, 1000)
		for range refusals / 6 {
			l.Throttled(at, 0)
		}
	}
	for range refusals % 6 {
		l.Throttled(now.Add(5*slotLength), 0)
	}
	return now.Add(adjustEvery)
}

func TestLocalCuts(t *testing.T) {
	for _, c := range []struct {
		name      string
		intervals int
		refusals  int // of 300 permits, in each
		least     float64
		most      float64
	}{
		{"none", 1, 0, 1000, 1000},
		{"one", 1, 1, 995, 995},
		{"a trickle", 1, 4, 995, 995},
		{"a lasting trickle", 4, 4, 980, 981},
		{"a fifth, once", 1, 60, 995, 995},
		{"almost a storm, once", 1, 89, 995, 995},
		{"a fifth, lasting", 3, 60, 885, 895}, // by half of the share
		{"almost a storm, lasting", 3, 85, 835, 860},
		{"a storm", 1, 90, 500, 500},
		{"everything", 1, 300, 500, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLocal(1000)
			now := time.Unix(0, 0)
			for range c.intervals {
				now = interval(l, now, c.refusals)
			}
			l.lease(now, 1)
			if got := l.Rate(); got < c.least-1e-6 || got > c.most+1e-6 {
				t.Errorf("rate %v, want %v to %v", got, c.least, c.most)
			}
		})
	}
}

// TestLocalTakesABreath: a refusal stops the permits for a moment, at most once a
// round trip.
func TestLocalTakesABreath(t *testing.T) {
	l := NewLocal(1000)
	now := time.Unix(0, 0)
	gap := func() time.Duration {
		before := l.schedule.Next
		l.Throttled(now, 0)
		lease, _ := l.lease(now, 1)
		return lease.From.Sub(later(before, now))
	}
	l.lease(now, 20) // until 20 ms from now
	if got := gap(); got != breath {
		t.Errorf("a gap of %v after a refusal, want %v", got, breath)
	}
	now = now.Add(breath)
	if got := gap(); got != 0 {
		t.Errorf("a gap of %v within a round trip of the last breath", got)
	}
	now = now.Add(breathEvery)
	if got := gap(); got != breath {
		t.Errorf("a gap of %v a round trip later, want %v", got, breath)
	}
}

// TestLocalLateAnswers: refusals of what was sent before a large cut are not taken for
// another storm.
func TestLocalLateAnswers(t *testing.T) {
	l := NewLocal(1000)
	now := time.Unix(0, 0)
	for range 3 {
		now = interval(l, now, 200)
	}
	l.lease(now, 1)
	if got, want := l.Rate(), 500*(1-trickleCut)*(1-trickleCut); math.Abs(got-want) > 1e-6 {
		t.Errorf("rate %v within a second of the storm, want %v", got, want)
	}
	for range 2 {
		now = interval(l, now, 200)
	}
	if l.lease(now, 1); l.Rate() > 250 {
		t.Errorf("rate %v: the storm goes on and is not answered", l.Rate())
	}
}

// TestLocalForgetsTheCeiling: a minute without a refusal, the refused rate means
// nothing any more and recovery is fast again.
func TestLocalForgetsTheCeiling(t *testing.T) {
	l := NewLocal(1000)
	now := time.Unix(0, 0)
	for range 20 { // an hour ago Stripe was in trouble
		now = interval(l, now, 300)
	}
	low := l.Rate()
	for range 500 {
		now = interval(l, now, 0)
	}
	if l.Rate() != 1000 {
		t.Errorf("rate %v after 150 s without refusals, from %v", l.Rate(), low)
	}
}

// TestLocalHoldsAndRecovers: nothing for the hold, then quickly to where it was
// refused, then slowly, to the configured rate and no further.
func TestLocalHoldsAndRecovers(t *testing.T) {
	l := NewLocal(1000)
	now := interval(l, time.Unix(0, 0), 300)
	last := now.Add(-slotLength) // of the refusals
	for now.Before(last.Add(holdFor)) {
		now = interval(l, now, 0)
		if l.Rate() != 500 {
			t.Fatalf("rate %v during the hold", l.Rate())
		}
	}
	steps := 0
	for ; l.Rate() < 989 && steps < 1000; steps++ {
		now = interval(l, now, 0)
	}
	if steps < 90 || steps > 110 {
		t.Errorf("fast recovery took %d intervals, want about 98", steps)
	}
	near := l.Rate()
	now = interval(l, now, 0)
	now = interval(l, now, 0)
	if step := l.Rate() - near; step > 2*recoverStep*1000 || step < 2*probeStep*1000-1e-6 {
		t.Errorf("stepped by %v near the refused rate", step)
	}
	for range 200 {
		now = interval(l, now, 0)
	}
	if l.Rate() != 1000 {
		t.Errorf("rate %v in the end, want the configured one", l.Rate())
	}
}

// TestLocalHoldIsNotRecovery: with little demand an interval reaches over the
// hold; only what comes after it counts.
func TestLocalHoldIsNotRecovery(t *testing.T) {
	l := NewLocal(1000)
	now := interval(l, time.Unix(0, 0), 300)
	l.lease(now, 1) // halves
	held := now.Add(-slotLength).Add(holdFor)
	l.lease(held.Add(adjustEvery), 1)
	if got := l.Rate(); math.Abs(got-505) > 1e-6 {
		t.Errorf("rate %v one step after the hold, want 505", got)
	}
}

func TestLocalRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		want  time.Duration
	}{
		{"none", 0, breath},
		{"negative", -time.Hour, breath},
		{"7 s", 7 * time.Second, 7 * time.Second},
		{"at the cap", MaxPause, MaxPause},
		{"a day", 24 * time.Hour, MaxPause},
		{"overflowing", math.MaxInt64, MaxPause},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLocal(1000)
				began := time.Now()
				l.Throttled(began, c.after)
				l.Throttled(began, time.Millisecond) // a shorter one does not shorten it
				lease, err := l.Lease(t.Context(), 1)
				if err != nil {
					t.Fatal(err)
				}
				if waited := lease.From.Sub(began); waited != c.want {
					t.Errorf("paused for %v, want %v", waited, c.want)
				}
			})
		})
	}
}

func TestLocalLeaseEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal(1000)
		l.Throttled(time.Now(), time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Lease(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lease: %v", err)
		}
	})
}

// TestLocalBounds: whatever happens, the rate stays between the least and what is
// configured, and no lease is above it or empty.
func TestLocalBounds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		configured := rapid.SampledFrom([]float64{0.25, 1, 25, 1000, 10_000}).Draw(r, "configured")
		l := NewLocal(configured)
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 200).Draw(r, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(r, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(r, "refuse") {
				for range rapid.IntRange(1, 50).Draw(r, "refusals") {
					l.Throttled(now, time.Duration(rapid.IntRange(0, 1000).Draw(r, "after"))*time.Second)
				}
			}
			want := rapid.IntRange(1, 500).Draw(r, "want")
			lease, wait := l.lease(now, want)
			if wait > MaxPause {
				r.Fatalf("paused for %v", wait)
			}
			if wait == 0 && (lease.Permits < 1 || lease.Permits > want || lease.Rate != l.Rate() || lease.until(0).Before(now)) {
				r.Fatalf("lease %+v for %d at rate %v", lease, want, l.Rate())
			}
			if rate := l.Rate(); rate > configured || rate < min(leastRate, configured) {
				r.Fatalf("rate %v of %v", rate, configured)
			}
		}
	})
}

// TestBucketPauses: after a Retry-After no permit is granted, but for the lease
// under way; then they flow again.
func TestBucketPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b, stop := started(NewLocal(1000), g.note)
		defer stop()
		ctx, cancel := context.WithCancel(t.Context())
		all := workers(ctx, b, 64)
		pass(t, time.Second)
		b.Throttled(time.Hour)
		refused := time.Now()
		pass(t, MaxPause+time.Second)
		cancel()
		all.Wait()
		if n := g.within(refused.Add(2*slotLength), MaxPause-2*slotLength); n != 0 {
			t.Errorf("%d permits during the pause", n)
		}
		if n := g.within(refused.Add(MaxPause), time.Second); n < 900 {
			t.Errorf("%d permits in the second after the pause", n)
		}
	})
}
