package ratelimit

import (
	"testing"
	"time"
)

func TestCrowded(t *testing.T) {
	l, end := NewLanes(func(int) {}), make(chan struct{})
	expect := func(when, key string, want bool) {
		t.Helper()
		if got := l.Crowded(key); got != want {
			t.Errorf("%s: crowded is %v", when, got)
		}
	}
	offer := func(key string) {
		t.Helper()
		if _, taken := l.Offer(key, func() { <-end }); !taken {
			t.Fatal("not taken")
		}
	}
	expect("idle", "a", false)
	offer("a")
	expect("one runs", "a", false)
	offer("a")
	expect("one waits", "a", true)
	offer("b")
	expect("in another lane", "b", false)
	close(end)
	l.Wait()
	expect("idle again", "a", false)
}

// What may be late, at once, and granted but not spent is the same share of every rate
// from 1,000/s on; below, it is what it is there.
func TestBoundsGrowWithTheRate(t *testing.T) {
	for _, test := range []struct {
		perSecond      float64
		burst, unspent int
		lateness       time.Duration
	}{
		{1, 1, 5, time.Second},
		{100, 1, 5, 10 * time.Millisecond},
		{500, 5, 5, 10 * time.Millisecond},
		{1000, 10, 5, 10 * time.Millisecond},
		{2000, 20, 10, 10 * time.Millisecond},
		{50_000, 500, 250, 10 * time.Millisecond},
	} {
		if got := burst(test.perSecond); got != test.burst {
			t.Errorf("%v/s: burst %d, want %d", test.perSecond, got, test.burst)
		}
		if got := lateness(test.perSecond); got != test.lateness {
			t.Errorf("%v/s: lateness %v, want %v", test.perSecond, got, test.lateness)
		}
		if got := (Lease{Rate: test.perSecond}).unspent(); got != test.unspent {
			t.Errorf("%v/s: %d unspent, want %d", test.perSecond, got, test.unspent)
		}
	}
}
