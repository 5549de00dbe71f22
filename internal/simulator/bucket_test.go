package simulator

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBucket(t *testing.T) {
	bucket := newBucket(1000, 20)
	steps := []struct {
		at   time.Duration
		take float64
		ok   bool
	}{
		{0, 20, true},
		{0, 1, false},
		{999 * time.Microsecond, 1, false},
		{time.Millisecond, 1, true},
		{time.Millisecond, 1, false},
		{500 * time.Microsecond, 1, false}, // a clock read out of order gives nothing
		{time.Hour, 21, false},             // never above the burst
		{time.Hour, 20, true},
		{2 * time.Hour, 1, true},
		{2*time.Hour - time.Millisecond, 19, true}, // … and takes nothing
	}
	for i, step := range steps {
		if ok := bucket.take(step.take, start.Add(step.at)); ok != step.ok {
			t.Errorf("step %d: took %v at %v: %v", i, step.take, step.at, ok)
		}
	}
}

func TestBucketIsOneOverAllCalls(t *testing.T) {
	b := newBench(t, Config{Rate: 1000, Burst: 3})
	b.want(b.send("id-1"), 200, "")
	b.want(b.get("/v1/account"), 200, "")
	b.want(b.get("/v1/nowhere"), 404, "")
	got := b.send("id-2")
	b.want(got, 429, "rate_limit")
	if reason := got.header.Get("Stripe-Rate-Limited-Reason"); reason != "global-rate" {
		t.Errorf("reason %q", reason)
	}
	b.clock.move(time.Millisecond)
	b.want(b.send("id-2"), 200, "")
	totals := b.Totals()
	if totals.RateLimited != 1 || totals.Contended != 0 || totals.ByStatus[429] != 1 || totals.Requests != 5 {
		t.Errorf("totals %+v", totals)
	}
}

func TestDefaultBucketIs1000WithBurst20(t *testing.T) {
	s := New(Config{Now: (&handClock{now: start}).Now})
	refused := 0
	for range 25 {
		if !s.requests.take(1, s.Now()) {
			refused++
		}
	}
	s.Advance(10 * time.Millisecond)
	for range 15 {
		if !s.requests.take(1, s.Now()) {
			refused++
		}
	}
	if refused != 5+5 {
		t.Errorf("refused %d, want 10", refused)
	}
}

func TestPeakIsOfAnySlidingSecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gaps := rapid.SliceOfN(rapid.Int64Range(0, int64(700*time.Millisecond)), 1, 200).Draw(t, "gaps")
		if rapid.Bool().Draw(t, "dense") {
			for i := range gaps {
				gaps[i] /= 50
			}
		}
		var a arrivals
		var times []int64
		now := start.UnixNano()
		for _, gap := range gaps {
			now += gap
			times = append(times, now)
			a.note(now)
		}
		want := 0
		for i, first := range times {
			n := 0
			for _, at := range times[i:] {
				if at-first < int64(time.Second) {
					n++
				}
			}
			want = max(want, n)
		}
		if got, _ := a.highest(); got != want {
			t.Fatalf("peak %d, want %d", got, want)
		}
		if len(a.ring) > max(64, 2*want) {
			t.Fatalf("ring of %d for a peak of %d", len(a.ring), want)
		}
	})
}

func TestRefusedRequestsCountTowardsThePeak(t *testing.T) {
	b := newBench(t, Config{Rate: 1, Burst: 1})
	for range 5 {
		b.get("/v1/account")
	}
	b.clock.move(time.Second)
	b.get("/v1/account")
	totals := b.Totals()
	if totals.PeakPerSecond != 5 || !totals.PeakAt.Equal(start) || totals.ByStatus[429] != 4 {
		t.Errorf("totals %+v", totals)
	}
}

// TestLatency runs the handler in a bubble, without a network.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Latency: 100 * time.Millisecond})
		began := time.Now()
		post := func(identifier string) *httptest.ResponseRecorder {
			form := url.Values{
				"event_name": {"api_calls"}, "identifier": {identifier}, "timestamp": {unix(time.Now())},
				"payload[stripe_customer_id]": {"cus_1"}, "payload[value]": {"1"},
			}
			r := httptest.NewRequest(http.MethodPost, pathEvents, strings.NewReader(form.Encode()))
			r.Header.Set("Authorization", "Bearer "+testKey)
			r.Header.Set("Stripe-Version", DefaultVersion)
			r.Header.Set("Content-Type", formType)
			r.Header.Set("Idempotency-Key", identifier)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
		var group sync.WaitGroup
		group.Go(func() {
			if w := post("id-1"); w.Code != 200 {
				t.Errorf("first: %d", w.Code)
			}
		})
		<-time.After(49 * time.Millisecond)
		if got := s.Totals().Counted; got != 0 {
			t.Errorf("counted %d before half of the latency", got)
		}
		<-time.After(2 * time.Millisecond)
		if got := s.Totals().Counted; got != 1 {
			t.Errorf("counted %d after half of the latency", got)
		}
		if w := post("id-2"); w.Code != 429 {
			t.Errorf("second for the same customer: %d", w.Code)
		}
		group.Wait()
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if w := post("id-3"); w.Code != 200 {
			t.Errorf("third: %d", w.Code)
		}
	})
}

func TestJitterStaysWithinItsWidth(t *testing.T) {
	s := New(Config{Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: 7})
	again := New(Config{Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: 7})
	low, high := time.Hour, time.Duration(-1)
	for range 1000 {
		d := s.latency()
		if d != again.latency() {
			t.Fatal("the same seed gave another latency")
		}
		low, high = min(low, d), max(high, d)
	}
	if low != 0 || high > 30*time.Millisecond || high < 25*time.Millisecond {
		t.Errorf("latencies from %v to %v, want 0 to 30 ms", low, high)
	}
}
