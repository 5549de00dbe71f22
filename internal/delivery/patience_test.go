package delivery

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/ratelimit"
)

// Pulls wait for a quarter of the places while most are held, but not for long, and not at
// all where there is room or a quarter is less than one.
func TestPullsWaitForMorePlacesThanOne(t *testing.T) {
	for name, test := range map[string]struct {
		limit, held int
		given       int // places that come free, one a millisecond
		want        int
		took        time.Duration
	}{
		"all are free":         {limit: 160, want: 160},
		"a quarter is free":    {limit: 160, held: 120, want: 40},
		"one is, then more":    {limit: 160, held: 159, given: 80, want: 40, took: 39 * time.Millisecond},
		"one is, and stays so": {limit: 160, held: 159, want: 1, took: gather},
		"none is, then one":    {limit: 160, held: 160, given: 1, want: 1, took: gather + time.Millisecond},
		"few places":           {limit: 4, held: 3, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlaces(func() int { return test.limit })
				for range test.held {
					p.take()
				}
				began := time.Now()
				var giving sync.WaitGroup
				defer giving.Wait()
				giving.Go(func() {
					for range test.given {
						pass(time.Millisecond)
						p.give()
					}
				})
				n, err := p.free(t.Context())
				check(t, "error", err, nil)
				check(t, "free", n, test.want)
				check(t, "after", time.Since(began), test.took)
			})
		})
	}
}

func TestAPullThatWaitsForPlacesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(func() int { return 160 })
		for range 159 {
			p.take()
		}
		ctx, cancel := context.WithTimeout(t.Context(), gather/2)
		defer cancel()
		began := time.Now()
		if _, err := p.free(ctx); err == nil {
			t.Error("no error")
		}
		check(t, "after", time.Since(began), gather/2)
	})
}

// An intent waits for others only where its permit is far away.
func TestPatienceOfIntents(t *testing.T) {
	for name, test := range map[string]struct {
		most, ahead int
		want        time.Duration
	}{
		"nobody is ahead":   {most: 250, ahead: 1},
		"nearly half":       {most: 250, ahead: 124},
		"half":              {most: 250, ahead: 125, want: mostPatience},
		"all":               {most: 250, ahead: 250, want: mostPatience},
		"too few to tell":   {most: 7, ahead: 7},
		"just enough of it": {most: 8, ahead: 4, want: mostPatience},
	} {
		w := &Worker{ahead: make(chan struct{}, test.most)}
		for range test.ahead {
			w.ahead <- struct{}{}
		}
		check(t, name, w.intentPatience(), test.want)
	}
}

// A record waits half as long as its request took, and never while its customer's next
// event waits for it.
func TestPatienceOfRecords(t *testing.T) {
	for name, test := range map[string]struct {
		took   time.Duration
		events int
		want   time.Duration // from the answer to the ack of all
	}{
		"a request of no time": {took: 0, events: 1, want: 0},
		"a short one":          {took: 40 * time.Millisecond, events: 1, want: 20 * time.Millisecond},
		"a long one":           {took: 2 * time.Second, events: 1, want: mostPatience},
		"one behind another":   {took: 40 * time.Millisecond, events: 2, want: 60 * time.Millisecond}, // its own request, and the last one's record
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.rule = slowly(test.took)
				for i := range test.events {
					w.outbox.publish(subject("cus_1"), datedBody(string(rune('a'+i)), "cus_1", 1, time.Now()), nil)
				}
				began := time.Now()
				l := w.start()
				if !w.outbox.settled(time.Minute) {
					t.Fatal("not settled")
				}
				check(t, "acked after the first answer", time.Since(began)-test.took, test.want)
				l.drain()
			})
		})
	}
}

// Lanes that do not tell who waits are taken for crowded.
func TestNoPatienceWithoutCrowd(t *testing.T) {
	d := &delivery{w: &Worker{}}
	d.letter.LastAttempt = time.Now().Add(-time.Second)
	check(t, "patience", d.recordPatience(), 0)
	var lanes Lanes = ratelimit.NewLanes(func(int) {})
	if _, tells := lanes.(Crowd); !tells {
		t.Error("the worker's own lanes do not tell")
	}
}
