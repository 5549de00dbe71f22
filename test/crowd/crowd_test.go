package crowd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backlog of 3,000 customers on three meters.
func (w *world) fill(n int) {
	for i := range n {
		w.publish(fmt.Sprint("meter_", i%3), fmt.Sprint("cus_", i%3000), fmt.Sprint("id-", i))
	}
}

// first has one event delivered: a fleet's very first lease takes most of a second.
func (w *world) first() {
	w.publish("api_calls", "cus_first", "first")
	<-w.outbox.drained
	w.outbox.drained = make(chan struct{})
}

// over is what Stripe saw within d.
func (w *world) over(d time.Duration) seen {
	first := w.stripe.seen()
	<-time.After(d)
	last := w.stripe.seen()
	last.requests -= first.requests
	return last
}

// polite looks at what must hold at any time.
func (w *world) polite(s seen) {
	w.t.Helper()
	if s.refused > 0 {
		w.t.Errorf("Stripe refused %d requests for the rate", s.refused)
	}
	if s.peak > perSecond+burst {
		w.t.Errorf("%d requests in one second", s.peak)
	}
	if s.beside > 0 {
		w.t.Errorf("%d requests came while another one for the same customer and meter was under way", s.beside)
	}
	if s.twice > 0 {
		w.t.Errorf("%d events were counted twice", s.twice)
	}
}

// drain lets everything settle, and ends the workers.
func (w *world) drain(published int) {
	w.t.Helper()
	<-w.outbox.drained
	w.scale(0)
	s := w.stripe.seen()
	w.polite(s)
	if s.counted != published {
		w.t.Errorf("%d of %d events were counted", s.counted, published)
	}
}

func TestThreeReplicasUseTheWholeRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newStripe(80*time.Millisecond, 20*time.Millisecond), nearby)
		const published = 66 * perSecond
		w.fill(published)
		w.scale(3)
		<-time.After(3 * time.Second) // all lanes are busy
		s := w.over(60 * time.Second)
		w.polite(s)
		t.Logf("%d requests in a minute, at most %d in a second", s.requests, s.peak)
		if s.requests < 99*60*perSecond/100 {
			t.Errorf("%d requests in a minute: less than 99 %% of the rate", s.requests)
		}
		w.drain(published)
	})
}

// TestAServerFarAway: leases are taken in time for their slots, however long that takes,
// and the intents of a quarter of a second may wait for them.
func TestAServerFarAway(t *testing.T) {
	for name, c := range map[string]struct {
		oneWay          time.Duration
		replicas, least int // percent of the rate
	}{
		"one worker, another region":               {distant, 1, 99},
		"three workers, another region":            {distant, 3, 99},
		"one worker, another part of the world":    {remote, 1, 60},
		"three workers, another part of the world": {remote, 3, 75},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newStripe(80*time.Millisecond, 20*time.Millisecond), c.oneWay)
				w.fill(30 * perSecond)
				w.scale(c.replicas)
				<-time.After(5 * time.Second)
				s := w.over(20 * time.Second)
				w.polite(s)
				t.Logf("%d requests in 20 s, at most %d in a second", s.requests, s.peak)
				if s.requests < c.least*20*perSecond/100 {
					t.Errorf("%d requests in 20 s: less than %d %% of the rate", s.requests, c.least)
				}
				w.scale(0)
			})
		})
	}
}

func TestScalingDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newStripe(80*time.Millisecond, 20*time.Millisecond), nearby)
		const published = 40 * perSecond
		w.scale(1)
		w.first()
		w.fill(published)
		for _, n := range []int{1, 5, 2} {
			w.scale(n)
			s := w.over(12 * time.Second)
			w.polite(s)
			t.Logf("%d replicas: %d requests in 12 s, at most %d in a second so far", n, s.requests, s.peak)
			if s.requests < 95*12*perSecond/100 {
				t.Errorf("%d replicas: %d requests in 12 s", n, s.requests)
			}
		}
		w.drain(published + 1)
	})
}

func TestAHotCustomerKeepsNobodyWaiting(t *testing.T) {
	const (
		seconds = 60
		rate    = 900 // events published a second, half of them of one customer
		latency = 100 * time.Millisecond
	)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newStripe(latency, 0), nearby)
		w.scale(2)
		w.first()
		stored := map[string]time.Time{}
		began := time.Now()
		for i := range seconds * rate {
			<-time.After(time.Until(began.Add(time.Duration(i) * time.Second / rate)))
			identifier := fmt.Sprint("cold-", i)
			customer := fmt.Sprint("cus_", i%3000)
			if i%2 == 0 {
				identifier, customer = fmt.Sprint("hot-", i), "cus_hot"
			}
			w.publish("api_calls", customer, identifier)
			stored[identifier] = time.Now()
		}
		<-time.After(2 * time.Second)
		w.judge(stored, seconds, rate, latency)
		w.scale(0)
	})
}

// judge holds the cold customers' waits against a second, and the hot one's pace against
// one call after the other.
func (w *world) judge(stored map[string]time.Time, seconds, rate int, latency time.Duration) {
	w.polite(w.stripe.seen())
	var waits []time.Duration
	hot := 0
	w.stripe.mu.Lock()
	for identifier, at := range w.stripe.counted {
		switch {
		case strings.HasPrefix(identifier, "hot"):
			hot++
			continue
		case identifier == "first":
			continue
		}
		waits = append(waits, at.Sub(stored[identifier]))
	}
	w.stripe.mu.Unlock()
	slices.Sort(waits)
	if len(waits) != seconds*rate/2 {
		w.t.Errorf("%d events of cold customers were delivered, of %d", len(waits), seconds*rate/2)
		return
	}
	p99 := waits[len(waits)*99/100]
	perSecond := float64(hot) / float64(seconds+2)
	w.t.Logf("cold: p50 %v, p99 %v, longest %v; hot: %.2f/s; %d messages came again",
		waits[len(waits)/2], p99, waits[len(waits)-1], perSecond, w.outbox.again)
	if p99 >= time.Second {
		w.t.Errorf("one cold event in a hundred waits for %v", p99)
	}
	if least := 0.85 / latency.Seconds(); perSecond < least { // an intent, a permit and a record come on top of the call
		w.t.Errorf("the hot customer moves at %.2f/s, less than %.2f/s", perSecond, least)
	}
}
