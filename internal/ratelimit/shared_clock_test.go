package ratelimit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestServerClock(t *testing.T) {
	origin := time.Now()
	base := time.Unix(1_800_000_000, 0)
	at := func(ms float64) time.Time { return origin.Add(time.Duration(ms * 1e6)) }
	on := func(ms float64) time.Time { return base.Add(time.Duration(ms * 1e6)) }
	type sample struct {
		sent, answered, stamped float64 // ms
		epoch                   string
		jumped                  bool
	}
	for _, c := range []struct {
		name    string
		samples []sample
		want    float64 // the server's clock − base at local 0, in ms
		within  float64
	}{
		{"half of the way", []sample{{0, 10, 5, "a", false}}, 0, 1e-3},
		{"bounds meet", []sample{{0, 10, 9, "a", false}, {100, 110, 101, "a", false}}, 0, 1.1},
		{"too slow", []sample{{0, 10, 5, "a", false}, {0, 1001, 900, "a", false}}, 0, 1e-3},
		{"a small step", []sample{{0, 1, 0.5, "a", false}, {100, 101, 102.5, "a", false}}, 2, 0.6},
		{"a step ahead", []sample{{0, 1, 0.5, "a", false}, {100, 101, 110.5, "a", true}}, 10, 0.6},
		{"a step back", []sample{{0, 1, 0.5, "a", false}, {100, 101, -9899.5, "a", true}}, -10_000, 0.6},
		{"drift is no step", []sample{{0, 1, 0.5, "a", false}, {100_000, 100_001, 100_050.5, "a", false}}, 50, 1},
		{"another epoch, another clock", []sample{{0, 1, 0.5, "a", false}, {100, 101, 5100.5, "b", false}}, 5000, 0.6},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := serverClock{origin: origin}
			if clock.fresh(origin) {
				t.Error("an estimate before the first sample")
			}
			for i, s := range c.samples {
				if got := clock.sample(at(s.sent), at(s.answered), on(s.stamped), s.epoch); got != s.jumped {
					t.Errorf("sample %d: jumped %v", i, got)
				}
			}
			if off := clock.server(origin).Sub(base).Seconds()*1e3 - c.want; off < -c.within || off > c.within {
				t.Errorf("off by %v ms", off)
			}
			if back := clock.local(clock.server(at(42))); !back.Equal(at(42)) {
				t.Errorf("there and back: %v, want %v", back, at(42))
			}
		})
	}
}

// TestServerClockBounds: whatever the round trips, with the clocks' drift allowed for,
// the estimate is never further off than half of the best one and the drift since.
func TestServerClockBounds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		origin := time.Now()
		truth := time.Duration(rapid.Int64Range(1e18, 2e18).Draw(r, "offset"))
		clock := serverClock{origin: origin}
		local, best := origin, time.Duration(0)
		for i := range rapid.IntRange(1, 30).Draw(r, "samples") {
			local = local.Add(time.Duration(rapid.IntRange(0, 3000).Draw(r, "ms")) * time.Millisecond)
			there := time.Duration(rapid.IntRange(0, 200_000).Draw(r, "there"))
			back := time.Duration(rapid.IntRange(0, 200_000).Draw(r, "back"))
			stamped := time.Unix(0, int64(local.Add(there).Sub(origin)+truth))
			if clock.sample(local, local.Add(there+back), stamped, "a") {
				r.Fatal("a jump of a steady clock")
			}
			if i == 0 || there+back < best {
				best = there + back
			}
			local = local.Add(there + back)
			slack := time.Duration(2 * drift * float64(local.Sub(origin)))
			if off := (clock.offset() - truth).Abs(); off > best/2+slack+1 {
				r.Fatalf("off by %v with a best round trip of %v", off, best)
			}
		}
	})
}
