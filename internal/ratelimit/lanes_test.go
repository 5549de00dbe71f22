package ratelimit

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// offerUntilFull offers work to lane "a" until it hands one back, and returns how
// much it took.
func offerUntilFull(t *testing.T, l *Lanes, work func()) int {
	t.Helper()
	for taken := range 100 {
		if _, ok := l.Offer("a", work); !ok {
			return taken
		}
	}
	t.Fatal("the lane takes everything")
	return 0
}

func TestLaneDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(func(int) {})
		if taken := offerUntilFull(t, l, func() { <-time.After(time.Second) }); taken != LaneDepth+1 {
			t.Errorf("the lane took %d, want one to run and %d to wait", taken, LaneDepth)
		}
		if _, ok := l.Offer("b", func() {}); !ok {
			t.Error("a full lane refuses work of another")
		}
		pass(t, 1500*time.Millisecond)
		if taken := offerUntilFull(t, l, func() {}); taken != 1 {
			t.Errorf("after one was done the lane took %d more", taken)
		}
		l.Wait()
	})
}

// TestLanes: one at a time for each key and in order, different keys beside each
// other, everything that was taken runs once.
func TestLanes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		type offer struct{ key, took, gap int }
		offers := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) offer {
			return offer{rapid.IntRange(0, 4).Draw(r, "key"), rapid.IntRange(0, 50).Draw(r, "took"), rapid.IntRange(0, 30).Draw(r, "gap")}
		}), 1, 200).Draw(r, "offers")
		rapid.SyncTest(r, func(r *rapid.T) {
			var mu sync.Mutex
			running, ran, took := map[int]int{}, map[int][]int{}, map[int][]int{}
			l := NewLanes(func(int) {})
			for i, o := range offers {
				_, taken := l.Offer(fmt.Sprint(o.key), func() {
					mu.Lock()
					running[o.key]++
					if running[o.key] > 1 {
						r.Errorf("two at once in lane %d", o.key)
					}
					ran[o.key] = append(ran[o.key], i)
					mu.Unlock()
					<-time.After(time.Duration(o.took) * time.Millisecond)
					mu.Lock()
					running[o.key]--
					mu.Unlock()
				})
				if taken {
					took[o.key] = append(took[o.key], i)
				}
				<-time.After(time.Duration(o.gap) * time.Millisecond)
			}
			l.Wait()
			for key, want := range took {
				if !slices.Equal(ran[key], want) {
					r.Errorf("lane %d ran %v, took %v", key, ran[key], want)
				}
			}
			if len(l.lanes) != 0 {
				r.Errorf("%d lanes are left", len(l.lanes))
			}
		})
	})
}

func TestLanesBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int64
		l := NewLanes(func(n int) { busy.Store(int64(n)) })
		began := time.Now()
		for key := range 500 {
			for range 2 {
				l.Offer(fmt.Sprint(key), func() { <-time.After(100 * time.Millisecond) })
			}
		}
		if busy.Load() != 500 {
			t.Errorf("%d lanes are busy", busy.Load())
		}
		l.Wait()
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("500 lanes with two pieces of 100 ms each took %v", took)
		}
		if busy.Load() != 0 || len(l.lanes) != 0 {
			t.Errorf("busy %d, kept %d after all was done", busy.Load(), len(l.lanes))
		}
	})
}

// TestHandBack: what a full lane hands back comes again in order, spread over the
// lane's own pace for half a minute and closer together after that, in clumps that the
// lane can take.
func TestHandBack(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 80 * time.Millisecond, 5 * time.Second, time.Minute} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLanes(func(int) {})
				for range 40 { // the lane learns its pace
					for {
						if _, ok := l.Offer("a", func() { <-time.After(took) }); ok {
							break
						}
						pass(t, took)
					}
				}
				synctest.Wait() // what ends in this instant has ended
				offerUntilFull(t, l, func() { <-time.After(took) })
				const offered = 20_000
				var last time.Duration
				near, clump := map[time.Duration]int{}, min(LaneDepth/2*took, longestClump)
				for range offered {
					again, ok := l.Offer("a", func() {})
					if ok {
						t.Fatal("taken")
					}
					if again < last || again < minHandBack || again > nearHandBack+offered*mostFar+longestClump {
						t.Fatalf("handed back for %v after %v", again, last)
					}
					last = again
					if again < nearHandBack && again > minHandBack+clump {
						near[again]++
					}
				}
				l.Wait()
				for delay, n := range near {
					if n > LaneDepth/2+1 { // one more: the pace is a mean
						t.Errorf("%d come again after the same %v", n, delay)
					}
				}
				if least := nearHandBack + (offered/2)*leastFar; took >= 80*time.Millisecond && last < least {
					t.Errorf("the last of %d comes again after %v, before %v", offered, last, least)
				}
			})
		})
	}
}

// TestHandBackForgets: the turns of a lane that has become idle are not kept.
func TestHandBackForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(func(int) {})
		work := func() { <-time.After(100 * time.Millisecond) }
		offerUntilFull(t, l, work)
		for range 100 {
			l.Offer("a", work)
		}
		l.Wait()
		offerUntilFull(t, l, work)
		if again, _ := l.Offer("a", work); again > time.Second {
			t.Errorf("handed back for %v by a lane that was idle meanwhile", again)
		}
		l.Wait()
	})
}

// TestHotLaneStaysBusy: work that comes again after the delays that it is given keeps
// the lane busy and is done after about as long as the lane needs for it.
func TestHotLaneStaysBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces, took = 400, 80 * time.Millisecond
		l := NewLanes(func(int) {})
		var all sync.WaitGroup
		began := time.Now()
		for range pieces {
			all.Go(func() {
				done := make(chan struct{})
				for {
					again, ok := l.Offer("hot", func() { defer close(done); <-time.After(took) })
					if ok {
						<-done
						return
					}
					<-time.After(again)
				}
			})
		}
		all.Wait()
		spent := time.Since(began)
		l.Wait()
		t.Logf("%d pieces of %v took %v", pieces, took, spent)
		if spent > pieces*took*3/2 {
			t.Errorf("%d pieces of %v took %v", pieces, took, spent)
		}
	})
}
