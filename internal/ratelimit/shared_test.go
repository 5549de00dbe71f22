package ratelimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// replica is one worker with its own line to the server.
type replica struct {
	shared *Shared
	bucket *Bucket
	line   *line
	grants *grants
	stop   context.CancelFunc

	mu      sync.Mutex
	trouble []error
}

// join starts a replica; all grants go into the fleet's, too.
func join(l *line, fleet *grants, perSecond float64) *replica {
	r := &replica{line: l, grants: &grants{}}
	r.shared = NewShared(SharedConfig{Rate: perSecond, Open: l.open, Trouble: func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.trouble = append(r.trouble, err)
	}})
	r.bucket, r.stop = started(r.shared, func(waited time.Duration, rate float64) {
		fleet.note(waited, rate)
		r.grants.note(waited, rate)
	})
	return r
}

func (r *replica) reported() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.trouble)
}

// fleet of n replicas whose clocks are minutes apart.
func fleet(n int, perSecond float64) (*memory, []*replica, *grants) {
	server, all := &memory{ahead: 1234 * time.Millisecond}, &grants{}
	var replicas []*replica
	for i := range n {
		l := newLine(server, uint64(i))
		l.skew = time.Duration(i*i) * 97 * time.Second * time.Duration(1-2*(i%2))
		replicas = append(replicas, join(l, all, perSecond))
	}
	return server, replicas, all
}

// demand takes permits of each replica with n goroutines until the returned function
// is called.
func demand(n int, replicas ...*replica) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all []*sync.WaitGroup
	for _, r := range replicas {
		all = append(all, workers(ctx, r.bucket, n))
	}
	return func() {
		cancel()
		for _, one := range all {
			one.Wait()
		}
	}
}

func leave(replicas []*replica) {
	for _, r := range replicas {
		r.stop()
	}
	synctest.Wait()
}

// checkBound holds all grants together against the bound of one bucket, but for a
// millisecond by which the replicas' ideas of the server's clock may differ, and the one
// more that a window open at both ends has. That is less than rate + burst a second.
func checkBound(t interface{ Errorf(string, ...any) }, all *grants, perSecond float64) {
	for _, window := range []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, time.Second, 5 * time.Second} {
		if got, most := busiest(all.times(), window), bound(perSecond, window+time.Millisecond)+1; got > most {
			t.Errorf("%d permits in a window of %v, at most %d may be", got, window, most)
		}
	}
}

// TestReplicasShareTheRate: a strict server behind a network sees one bucket, whatever
// the number of replicas and however wrong their clocks are.
func TestReplicasShareTheRate(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, replicas, all := fleet(n, 1000)
				pass(t, 2*time.Second) // the schedule begins
				server := newStrict(1000, 20)
				ctx, cancel := context.WithCancel(t.Context())
				var serving []*sync.WaitGroup
				for _, r := range replicas {
					serving = append(serving, serve(ctx, r.bucket, server, time.Millisecond, func(bool) {}))
				}
				pass(t, 20*time.Second+80*time.Millisecond)
				accepted, refusals := server.counts()
				cancel()
				for _, one := range serving {
					one.Wait()
				}
				leave(replicas)
				t.Logf("%d replicas: %.2f %% of the limit used, %d refused", n, float64(accepted)/200, refusals)
				if accepted < 19_800 || refusals != 0 {
					t.Errorf("%d accepted of 20,000, want 99 %%; %d refused, want none", accepted, refusals)
				}
				checkBound(t, all, 1000)
				for i, r := range replicas {
					if share := float64(len(r.grants.times())) / 20_000 * float64(n); share < 0.8 || share > 1.2 {
						t.Errorf("replica %d got %.2f of a fair share", i, share)
					}
				}
			})
		})
	}
}

// TestSlowAndTinyRates: one permit at a time is shared, too.
func TestSlowAndTinyRates(t *testing.T) {
	for _, perSecond := range []float64{0.25, 1, 25, 10_000} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, replicas, all := fleet(3, perSecond)
				start := quarantine + 2*seconds(3/perSecond)
				pass(t, start)
				stop := demand(100, replicas...)
				length := min(max(5*time.Second, seconds(100/perSecond)), 100*time.Second)
				begin := time.Now()
				pass(t, length)
				stop()
				leave(replicas)
				if got, want := all.within(begin, length), perSecond*length.Seconds()*0.985; float64(got) < want-1 {
					t.Errorf("%d permits in %v, want %.0f", got, length, want)
				}
				checkBound(t, all, perSecond)
			})
		})
	}
}

// TestServerFarAway: leases are taken ahead, so that the way to the server costs
// nothing of the rate.
func TestServerFarAway(t *testing.T) {
	for _, oneWay := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%v and %d", oneWay, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, replicas, all := fleet(n, 1000)
					for _, r := range replicas {
						r.line.mu.Lock()
						r.line.delay = [2]time.Duration{oneWay, oneWay + oneWay/10}
						r.line.mu.Unlock()
					}
					stop := demand(400, replicas...)
					pass(t, 3*time.Second)
					begin := time.Now()
					pass(t, 10*time.Second)
					stop()
					leave(replicas)
					if got := all.within(begin, 10*time.Second); got < 9_850 {
						t.Errorf("%d permits in 10 s, want 98.5 %%", got)
					}
					checkBound(t, all, 1000)
				})
			})
		}
	}
}

// TestDemandMoves: a replica that has nothing to send leaves the rate to the others
// within a fraction of a second, and gets its share back as soon.
func TestDemandMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, replicas, all := fleet(3, 1000)
		pass(t, 2*time.Second)
		for round := range 6 {
			busy := replicas[round%3]
			stop := demand(100, busy)
			began := time.Now()
			pass(t, time.Second)
			stop()
			if got := busy.grants.within(began, 300*time.Millisecond); got < 200 {
				t.Errorf("round %d: %d permits in the first 300 ms", round, got)
			}
			if got := busy.grants.within(began.Add(200*time.Millisecond), 800*time.Millisecond); got < 785 {
				t.Errorf("round %d: %d permits in the next 800 ms: the others hoard", round, got)
			}
		}
		leave(replicas)
		checkBound(t, all, 1000)
	})
}

// TestLoneRequestIsNotDelayed: where nobody waits, one permit costs the way to the
// server and no more.
func TestLoneRequestIsNotDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, replicas, _ := fleet(3, 1000)
		pass(t, 2*time.Second)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 200 {
			pass(t, time.Duration(random.Int64N(int64(100*time.Millisecond))))
			began := time.Now()
			p, err := replicas[i%3].bucket.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p.Done()
			if waited := time.Since(began); waited > 9*time.Millisecond { // three round trips and a look at the clock
				t.Errorf("waited %v for one permit", waited)
			}
		}
		leave(replicas)
	})
}

// TestStandingStillTogether: replicas on one busy machine, whose processes get no
// processor for a while all at once, with permits granted and not spent, do not
// overrun a strict server when they go on.
func TestStandingStillTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, replicas, all := fleet(5, 1000)
		pass(t, 2*time.Second)
		server, spent := newStrict(1000, 20), &grants{}
		ctx, cancel := context.WithCancel(t.Context())
		var holders sync.WaitGroup
		const every, still = 97 * time.Millisecond, 27 * time.Millisecond
		began := time.Now()
		for i := range 500 {
			holders.Go(func() {
				for {
					p, err := replicas[i%5].bucket.Take(ctx)
					if err != nil {
						return
					}
					if into := time.Since(began) % every; into < still {
						<-time.After(still - into)
					}
					if p.Spend(ctx) == nil {
						spent.note(0, 0)
						server.take()
					}
					p.Done()
				}
			})
		}
		pass(t, 20*time.Second)
		cancel()
		holders.Wait()
		leave(replicas)
		accepted, refusals := server.counts()
		t.Logf("%d accepted of 20,000, %d refused, %d at once", accepted, refusals, busiest(spent.times(), 0))
		if refusals != 0 || accepted < 13_000 {
			t.Errorf("%d refused, %d accepted", refusals, accepted)
		}
		if got, most := busiest(spent.times(), time.Second), 1000*(1+permitLife.Seconds())*Margin+1; float64(got) > most {
			t.Errorf("%d were spent in a second, at most %.0f may be", got, most)
		}
		checkBound(t, all, 1000)
	})
}
