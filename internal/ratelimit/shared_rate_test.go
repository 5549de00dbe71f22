package ratelimit

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestStepDownIsForAll: what Stripe refuses to one replica lowers the rate of all.
func TestStepDownIsForAll(t *testing.T) {
	for _, c := range []struct {
		name        string
		refusals    int
		least, most float64
	}{{"one", 1, 990, 998}, {"a storm", 200, 490, 520}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, replicas, all := fleet(3, 1000)
				stop := demand(100, replicas...)
				pass(t, 3*time.Second)
				for range c.refusals {
					replicas[1].bucket.Throttled(0)
				}
				refusedAt := time.Now()
				pass(t, time.Second)
				for i, r := range replicas {
					if got := r.shared.Rate(); got < c.least || got > c.most {
						t.Errorf("replica %d: rate %v, want %v to %v", i, got, c.least, c.most)
					}
				}
				if n := all.within(refusedAt.Add(900*time.Millisecond), time.Second); float64(n) > c.most+maxBurst {
					t.Errorf("%d permits in a second at a rate of %v at most", n, c.most)
				}
				stop()
				pass(t, 5*time.Minute)
				for i, r := range replicas {
					p, err := r.bucket.Take(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					p.Done()
					if got := r.shared.Rate(); got != 1000 {
						t.Errorf("replica %d: rate %v in the end", i, got)
					}
				}
				leave(replicas)
			})
		})
	}
}

// TestReplicasFindAnUnknownLimit: the rules of the step-down do as well for three as
// for one.
func TestReplicasFindAnUnknownLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, replicas, _ := fleet(3, 1000)
		pass(t, 2*time.Second)
		server := newStrict(800, 20)
		ctx, cancel := context.WithCancel(t.Context())
		for _, r := range replicas {
			all := serve(ctx, r.bucket, server, time.Millisecond, func(ok bool) {
				if !ok {
					r.bucket.Throttled(0)
				}
			})
			defer all.Wait()
		}
		pass(t, time.Minute)
		accepted, refusals := server.counts()
		pass(t, time.Minute)
		acceptedLater, refusedLater := server.counts()
		cancel()
		leave(replicas)
		share := float64(refusedLater-refusals) / float64(acceptedLater-accepted)
		t.Logf("refused %d of %d, then %.3f %%", refusals, accepted, 100*share)
		if use := float64(acceptedLater-accepted) / 48_000; use < 0.985 || share > 0.002 {
			t.Errorf("%.3f of the limit used in the second minute, %.5f refused", use, share)
		}
	})
}

// TestRetryAfterIsForAll: the replica that was told stops at once, the others with
// their next lease; then all go on. So it is when nobody there wants a permit.
func TestRetryAfterIsForAll(t *testing.T) {
	for _, idle := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, replicas, all := fleet(3, 1000)
			stop := func() {}
			if !idle {
				stop = demand(100, replicas[0])
			}
			stopOthers := demand(100, replicas[1:]...)
			pass(t, 3*time.Second)
			replicas[0].bucket.Throttled(10 * time.Second)
			told := time.Now()
			pass(t, 15*time.Second)
			stop()
			stopOthers()
			leave(replicas)
			if n := replicas[0].grants.within(told.Add(time.Nanosecond), 10*time.Second-time.Nanosecond); n != 0 {
				t.Errorf("%d permits for the replica that was told to wait", n)
			}
			if n := all.within(told.Add(maxAhead), 9900*time.Millisecond-maxAhead); n != 0 {
				t.Errorf("%d permits while all should wait", n)
			}
			if n := all.within(told.Add(10*time.Second), 2*time.Second); n < 1900 {
				t.Errorf("%d permits in the two seconds after it", n)
			}
			checkBound(t, all, 1000)
		})
	}
}

// TestLowestRateWins: while the replicas disagree about the rate, the lowest is in
// force.
func TestLowestRateWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, all := &memory{}, &grants{}
		a, b := join(newLine(server, 1), all, 1000), join(newLine(server, 2), all, 400)
		stop := demand(100, a, b)
		pass(t, 10*time.Second)
		if n := all.within(time.Now().Add(-5*time.Second), 5*time.Second); n < 1_970 || n > 2_060 {
			t.Errorf("%d permits in 5 s, want those of 400/s", n)
		}
		b.stop()
		pass(t, time.Minute)
		if got := a.shared.Rate(); got != 1000 {
			t.Errorf("rate %v a minute after the other left", got)
		}
		stop()
		leave([]*replica{a, b})
	})
}

// TestCeiling: a process uses no more than its ceiling, and wastes nothing of what it
// leases for it; the others use the rest.
func TestCeiling(t *testing.T) {
	for _, c := range []struct {
		ceiling float64
		want    float64 // permits a second
	}{{0.2, 0.2}, {5, 5}, {50, 50}, {400, 400}, {2000, 995}, {0, 995}, {math.Inf(1), 995}} {
		synctest.Test(t, func(t *testing.T) {
			server, all := &memory{}, &grants{}
			r := &replica{line: newLine(server, 1), grants: all}
			r.shared = NewShared(SharedConfig{Rate: 1000, Open: r.line.open, Trouble: func(error) {}})
			ceiling := c.ceiling
			r.bucket = NewBucket(Config{Lessor: r.shared, Granted: all.note, Ceiling: func() float64 { return ceiling }})
			ctx, cancel := context.WithCancel(t.Context())
			go r.bucket.Run(ctx)
			stop := demand(100, r)
			pass(t, 2*time.Second)
			begin := time.Now()
			pass(t, 20*time.Second)
			if got, want := float64(all.within(begin, 20*time.Second)), 20*c.want; got < 0.93*want-1 || got > 1.001*want+maxBurst {
				t.Errorf("ceiling %v: %.0f permits in 20 s, want %.0f", c.ceiling, got, want)
			}
			if _, writes, _ := server.get(); float64(writes) > 22*(10+2*c.want/float64(burst(c.want))) {
				t.Errorf("ceiling %v: %d writes in 22 s", c.ceiling, writes)
			}
			stop()
			cancel()
			synctest.Wait()
		})
	}
}

// TestCeilingRises: a ceiling that goes is noticed soon.
func TestCeilingRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, ceiling := &grants{}, make(chan float64, 1)
		ceiling <- 0.1
		b := NewBucket(Config{Lessor: NewLocal(1000), Granted: g.note, Ceiling: func() float64 {
			now := <-ceiling
			ceiling <- now
			return now
		}})
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		waiting, leave := context.WithCancel(t.Context())
		all := workers(waiting, b, 100)
		pass(t, 15*time.Second)
		if n := len(g.times()); n > 2+maxBurst {
			t.Errorf("%d permits under a ceiling of 0.1/s", n)
		}
		<-ceiling
		ceiling <- math.Inf(1)
		risen := time.Now()
		pass(t, time.Second)
		leave()
		all.Wait()
		cancel()
		if n := g.within(risen, time.Second); n < 880 {
			t.Errorf("%d permits in the second after the ceiling went", n)
		}
	})
}
