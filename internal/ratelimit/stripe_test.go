package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// strict is a server's bucket: a request finds its token or is refused.
type strict struct {
	mu       sync.Mutex
	rate     float64 // tokens a second
	burst    float64
	tokens   float64
	last     time.Time
	accepted int
	refused  int
}

func newStrict(rate, burst float64) *strict {
	return &strict{rate: rate, burst: burst, tokens: burst, last: time.Now()}
}

func (s *strict) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(s.burst, s.tokens+now.Sub(s.last).Seconds()*s.rate)
	s.last = now
	if s.tokens < 1 {
		s.refused++
		return false
	}
	s.tokens--
	s.accepted++
	return true
}

func (s *strict) counts() (accepted, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted, s.refused
}

// journey is a one-way delay of 40 ms and jitter each way.
type journey struct {
	random *rand.Rand
	jitter time.Duration
}

func (j journey) delay() time.Duration {
	return 40*time.Millisecond - j.jitter + time.Duration(j.random.Int64N(int64(2*j.jitter)+1))
}

// serve sends to the server as fast as permits come, until ctx ends.
func serve(ctx context.Context, b *Bucket, s *strict, jitter time.Duration, answer func(ok bool)) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range 256 {
		j := journey{rand.New(rand.NewPCG(uint64(i), 7)), jitter}
		all.Go(func() {
			for {
				p, err := b.Take(ctx)
				if err != nil {
					return
				}
				p.Done()
				<-time.After(j.delay())
				ok := s.take()
				<-time.After(j.delay())
				answer(ok)
			}
		})
	}
	return &all
}

// TestStrictServer: a strict bucket of 1,000/s and burst 20 behind a network. The
// figures for each jitter are printed with -v.
func TestStrictServer(t *testing.T) {
	for _, c := range []struct {
		jitter time.Duration
		most   int // refusals of 30,000
	}{
		{0, 0},
		{time.Millisecond, 0},
		{5 * time.Millisecond, 0},
		{20 * time.Millisecond, 3},
		{40 * time.Millisecond, 150},
	} {
		t.Run(c.jitter.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newStrict(1000, 20)
				b, stop := started(NewLocal(1000), func(time.Duration, float64) {})
				ctx, cancel := context.WithCancel(t.Context())
				all := serve(ctx, b, server, c.jitter, func(bool) {})
				pass(t, 30*time.Second+80*time.Millisecond)
				accepted, refused := server.counts()
				cancel()
				all.Wait()
				stop()
				t.Logf("jitter ±%v: %d accepted (%.2f %% of the limit), %d refused", c.jitter, accepted, float64(accepted)/300, refused)
				if accepted < 29_700 {
					t.Errorf("%d accepted, want 99 %% of 30,000", accepted)
				}
				if refused > c.most {
					t.Errorf("%d refused, want at most %d", refused, c.most)
				}
			})
		})
	}
}

// TestLocalFindsAnUnknownLimit: Stripe allows less than what is configured and
// says so by refusals only. The first minute pays for finding out.
func TestLocalFindsAnUnknownLimit(t *testing.T) {
	for _, c := range []struct {
		name              string
		configured, limit float64
		use               float64 // of the limit, at least
		first, later      float64 // share refused in the first minute and in the second, at most
	}{
		{"a fifth less", 1000, 800, 0.99, 0.01, 0.001},
		{"half", 1000, 500, 0.98, 0.03, 0.001}, // halved once or twice, as the first interval falls
		{"a little less", 1000, 990, 0.99, 0.001, 0.001},
		{"test mode", 25, 20, 0.99, 0.06, 0.025}, // 7 permits an interval: one refusal is a seventh
		{"what is configured", 1000, 1000, 0.99, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newStrict(c.limit, 20)
				b, stop := started(NewLocal(c.configured), func(time.Duration, float64) {})
				ctx, cancel := context.WithCancel(t.Context())
				all := serve(ctx, b, server, time.Millisecond, func(ok bool) {
					if !ok {
						b.Throttled(0)
					}
				})
				accepted, refused := 0, 0
				for minute, most := range []float64{c.first, c.later} {
					pass(t, time.Minute)
					allAccepted, allRefused := server.counts()
					accepted, refused = allAccepted-accepted, allRefused-refused
					use, share := float64(accepted)/(60*c.limit), float64(refused)/float64(accepted+refused)
					t.Logf("minute %d: %.2f %% of the limit used, %d refused (%.3f %%)", minute+1, 100*use, refused, 100*share)
					if use < c.use || share > most {
						t.Errorf("minute %d: want at least %.3f used and at most %.5f refused", minute+1, c.use, most)
					}
					accepted, refused = allAccepted, allRefused
				}
				cancel()
				all.Wait()
				stop()
			})
		})
	}
}
