package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"
)

// freezing holds its replica, with the lease that it has just got, while running is
// empty: a process that is stopped.
type freezing struct {
	Lessor

	running chan struct{}
}

func (f freezing) Lease(ctx context.Context, want int) (Lease, error) {
	lease, err := f.Lessor.Lease(ctx, want)
	f.running <- <-f.running
	return lease, err
}

func joinFreezing(l *line, all *grants, perSecond float64) (*replica, freezing) {
	r := &replica{line: l, grants: &grants{}}
	r.shared = NewShared(SharedConfig{Rate: perSecond, Open: l.open, Trouble: func(error) {}})
	f := freezing{r.shared, make(chan struct{}, 1)}
	f.running <- struct{}{}
	r.bucket, r.stop = started(f, all.note)
	return r, f
}

// TestSharedWindowBound: whatever replicas join, leave, freeze, crash, are cut off, lose
// answers and swaps, and whatever happens to the key: no window holds more than rate ×
// Margin and a burst.
func TestSharedWindowBound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		perSecond := rapid.SampledFrom([]float64{2, 25, 200, 1000, 5000}).Draw(r, "rate")
		type step struct {
			kind    string
			replica int
			skew    time.Duration
			lasting time.Duration
		}
		kinds := []string{"join", "join", "crash", "freeze", "cut", "faults", "lose", "pass", "garbage"}
		plan := make([]step, rapid.IntRange(1, 14).Draw(r, "steps"))
		for i := range plan {
			plan[i] = step{
				rapid.SampledFrom(kinds).Draw(r, "kind"), rapid.IntRange(0, 7).Draw(r, "replica"),
				time.Duration(rapid.IntRange(-100_000, 100_000).Draw(r, "skew ms")) * time.Millisecond,
				time.Duration(rapid.IntRange(0, 900).Draw(r, "ms")) * time.Millisecond,
			}
		}
		rapid.SyncTest(r, func(r *rapid.T) {
			server, all := &memory{}, &grants{}
			type live struct {
				*replica
				freezing

				leave func()
			}
			var replicas []live
			join := func(s step) {
				l := newLine(server, uint64(len(replicas)))
				l.skew = s.skew
				one, freeze := joinFreezing(l, all, perSecond)
				replicas = append(replicas, live{one, freeze, demand(60, one)})
			}
			join(plan[0])
			for _, s := range plan {
				one := replicas[s.replica%len(replicas)]
				switch s.kind {
				case "join":
					join(s)
				case "crash":
					one.stop()
				case "freeze":
					<-one.running
					<-time.After(s.lasting)
					one.running <- struct{}{}
				case "cut":
					one.line.setCut(true)
					<-time.After(s.lasting)
					one.line.setCut(false)
				case "faults":
					one.line.setFaults(func(random *rand.Rand) fault { return fault(random.IntN(4)) })
					<-time.After(s.lasting)
					one.line.setFaults(nil)
				case "lose":
					server.lose()
				case "garbage":
					server.garble()
				}
				<-time.After(s.lasting)
			}
			for _, one := range replicas {
				one.stop()
				one.leave()
			}
			synctest.Wait()
			checkBound(r, all, perSecond)
		})
	})
}

// TestFaultsOfTheSwap: a swap that is lost, refused, or done and reported as failed
// costs permits at most, and never grants one twice.
func TestFaultsOfTheSwap(t *testing.T) {
	for _, c := range []struct {
		name  string
		what  fault
		code  jetstream.ErrorCode
		share float64 // of the writes
		use   float64 // of the rate, at least
	}{
		{"a lost swap", outrun, 10071, 0.3, 0.6},
		{"a lost swap on replicas", outrun, 10164, 0.3, 0.6},
		{"refused", refused, 10071, 0.1, 0.8},
		{"done, and reported as failed", unanswered, 10071, 0.1, 0.7},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, replicas, all := fleet(3, 1000)
				for _, r := range replicas {
					r.line.code = c.code
					r.line.setFaults(func(random *rand.Rand) fault {
						if random.Float64() < c.share {
							return c.what
						}
						return none
					})
				}
				stop := demand(100, replicas...)
				pass(t, 2*time.Second)
				begin := time.Now()
				pass(t, 10*time.Second)
				stop()
				leave(replicas)
				got := all.within(begin, 10*time.Second)
				t.Logf("%d permits in 10 s", got)
				if got < int(c.use*10_000) {
					t.Errorf("%d permits in 10 s, want %.0f", got, c.use*10_000)
				}
				for i, r := range replicas {
					if got := r.reported(); (len(got) > 0) != (c.what != outrun) {
						t.Errorf("replica %d reported %v", i, got)
					}
				}
				checkBound(t, all, 1000)
			})
		})
	}
}

// TestCrashLosesPermitsOnly: what a replica that is killed, cut off or stopped has
// leased is neither spent later nor waited for.
func TestCrashLosesPermitsOnly(t *testing.T) {
	for _, kind := range []string{"crash", "cut off", "frozen"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, replicas, all := fleet(2, 1000)
				victim, freeze := joinFreezing(newLine(server, 9), all, 1000)
				stop := demand(100, append(replicas, victim)...)
				pass(t, 5*time.Second)
				switch kind {
				case "crash":
					victim.stop()
				case "cut off":
					victim.line.setCut(true)
				case "frozen":
					<-freeze.running
				}
				pass(t, 500*time.Millisecond)
				begin := time.Now()
				pass(t, 5*time.Second)
				if got := all.within(begin, 5*time.Second); got < 4_950 {
					t.Errorf("the others got %d permits in 5 s, want 99 %%", got)
				}
				if kind == "frozen" {
					freeze.running <- struct{}{}
					pass(t, time.Second)
				}
				stop()
				victim.stop()
				leave(replicas)
				checkBound(t, all, 1000)
			})
		})
	}
}

// TestOutOfReach: without NATS nothing is granted; why is reported once, and its end.
func TestOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, replicas, all := fleet(2, 1000)
		stop := demand(50, replicas...)
		pass(t, 5*time.Second)
		for _, r := range replicas {
			r.line.setCut(true)
		}
		cut := time.Now()
		pass(t, time.Minute)
		if n := all.within(cut.Add(maxAhead), time.Minute-maxAhead); n != 0 {
			t.Errorf("%d permits while NATS was out of reach", n)
		}
		for i, r := range replicas {
			r.line.setCut(false)
			if got := r.reported(); len(got) != 1 || !errors.Is(got[0], errOutOfReach) {
				t.Errorf("replica %d reported %v", i, got)
			}
		}
		back := time.Now()
		pass(t, 5*time.Second)
		if n := all.within(back.Add(mostRetry+time.Second), time.Second); n < 985 {
			t.Errorf("%d permits in a second after NATS came back", n)
		}
		stop()
		leave(replicas)
		for i, r := range replicas {
			if got := r.reported(); len(got) != 2 || got[1] != nil {
				t.Errorf("replica %d reported %v", i, got)
			}
		}
		checkBound(t, all, 1000)
	})
}

func TestSharedLeaseEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(&memory{}, 1)
		l.setCut(true)
		s := NewShared(SharedConfig{Rate: 1000, Open: l.open, Trouble: func(error) {}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		lease, err := s.Lease(ctx, 1)
		if !errors.Is(err, context.DeadlineExceeded) || lease.Permits != 0 || time.Since(began) != time.Minute {
			t.Errorf("Lease: %+v, %v after %v", lease, err, time.Since(began))
		}
	})
}

// TestLostKey: nothing is granted until what was leased before can no longer be spent;
// the rate in force and a pause survive.
func TestLostKey(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(m *memory)
	}{{"lost", (*memory).lose}, {"garbled", (*memory).garble}, {"an hour ahead", (*memory).mislead}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, replicas, all := fleet(3, 1000)
				stop := demand(100, replicas...)
				pass(t, 3*time.Second)
				for range 200 {
					replicas[0].bucket.Throttled(0)
				}
				pass(t, time.Second)
				before := replicas[1].shared.Rate()
				c.lose(server)
				lost := time.Now()
				pass(t, 4*time.Second)
				stop()
				leave(replicas)
				if n := all.within(lost.Add(maxAhead+slotLength), quarantine-maxAhead-slotLength); n != 0 {
					t.Errorf("%d permits were granted while nobody knew what was leased", n)
				}
				if n := all.within(lost.Add(2*time.Second), time.Second); n < 400 {
					t.Errorf("%d permits in a second, two after the loss", n)
				}
				if after := replicas[2].shared.Rate(); before > 600 || after > before+50 {
					t.Errorf("rate %v, after the loss %v: what was stepped down must survive", before, after)
				}
				checkBound(t, all, 1000)
			})
		})
	}
}

// TestServerClockSteps: another server's clock, ahead or behind, costs a second at
// most and never a permit too many.
func TestServerClockSteps(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, -time.Second, -30 * time.Millisecond, 30 * time.Millisecond, time.Second, time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, replicas, all := fleet(3, 1000)
				stop := demand(100, replicas...)
				pass(t, 3*time.Second)
				server.step(by)
				stepped := time.Now()
				pass(t, 10*time.Second)
				stop()
				leave(replicas)
				if n := all.within(stepped.Add(5*time.Second), 5*time.Second); n < 4_950 {
					t.Errorf("%d permits in the last 5 s", n)
				}
				if most := busiest(all.times(), time.Second); most > 1010 {
					t.Errorf("%d permits in a second", most)
				}
			})
		})
	}
}

// TestSameRevisionOfAnotherBucket: a bucket that was made anew counts from 1 again. A
// replica takes what is there for its own write by the content, and soon looks again.
func TestSameRevisionOfAnotherBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, samples := &memory{}, 0
		l := newLine(server, 1)
		c := newCell(SharedConfig{Rate: 1000, Open: l.open})
		read := func() seen {
			for {
				at, err := c.read(t.Context(), func(written, time.Time, string) { samples++ })
				if err == nil {
					return at
				}
			}
		}
		mine := read()
		if err := c.write(t.Context(), mine); err != nil || samples != 1 {
			t.Fatal(err, samples)
		}
		server.mu.Lock()
		server.value = []byte(`{"epoch":"another","rate":7,"next":"2000-01-01T00:00:10Z"}`)
		server.mu.Unlock()
		pass(t, aloneFor)
		if at := read(); at.Epoch != "another" || at.revision != mine.revision+1 || samples != 1 {
			t.Errorf("epoch %q, %d samples of the clock", at.Epoch, samples)
		}
	})
}
