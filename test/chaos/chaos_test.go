//go:build chaos

package chaos

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/test/chaos/faultproxy"
)

const (
	fleetSize = 3

	// Longer than AckWait (3 s); and longer than a member may be silent (8 s), so that
	// the others take its partitions.
	shortTrouble = 5 * time.Second
	longTrouble  = 12 * time.Second

	// lettersInOutage is how many events a worker may bury before it takes an outage for
	// one.
	lettersInOutage = 20

	// inHand is how far the producers run ahead of the workers, in messages.
	inHand = 2000
)

// evidence is what a run leaves behind.
type evidence struct {
	Seed          uint64           `json:"seed"`
	Seconds       float64          `json:"seconds"`
	Plan          []*step          `json:"plan"`
	Verdict       verdict          `json:"verdict"`
	Units         map[string]int64 `json:"units"` // by meter
	OutageLetters int              `json:"dead_letters_of_the_outage"`
	Rate          int              `json:"rate"`
	Peak          int              `json:"peak_per_second"`
	TakeOverCalls int              `json:"calls_beside_a_former_owners"`
	Violations    int              `json:"calls_at_once_of_one_worker"`
	Stripe        simulator.Totals `json:"stripe"`
}

// Three workers, producers throughout, and everything that may fail does.
func TestChaos(t *testing.T) {
	began := time.Now()
	t.Logf("seed %d", *seed)
	w := newWorld(t, simulator.Config{Latency: 5 * time.Millisecond, Rate: -1, Seed: *seed}, fleetSize,
		fmt.Sprintf("METERWORKER_RATE=%d", *rate))
	c := &chaos{world: w, began: began, busy: map[int]bool{}, cuts: []simulator.Fault{
		{Kind: simulator.Cut, Probability: 0.02}, {Kind: simulator.Reset, Probability: 0.02, Recorded: true},
	}}
	c.startFleet(t)
	tr := chaosTraffic(t)
	c.billable = tr.billable()
	steps := makePlan(rand.New(rand.NewPCG(*seed, 2)), c.billable)
	c.inject(t, c.cuts...)
	published := make(chan struct{})
	go func() {
		defer close(published)
		tr.publish(w.client.js, 64, c.pace(tr))
	}()
	c.play(t, steps)
	<-published
	until(t, "everything to be terminal", w.settled)
	inOutage := c.replayOutage(t)
	c.rerun(t, tr)
	books := w.stripe.Books()
	e := evidence{
		Seed: *seed, Plan: steps, Verdict: judge(tr.messages, books, w.client.letters()), Units: units(books),
		OutageLetters: inOutage, Rate: *rate, Peak: books.PeakPerSecond, Stripe: books.Totals,
		Seconds: time.Since(began).Seconds(),
	}
	e.count(w.stripe.seen())
	leave(t, "chaos", e)
	e.check(t, steps, w.stripe.seen(), began)
}

// count splits the overlaps.
func (e *evidence) count(overlaps []overlap) {
	for _, o := range overlaps {
		if o.SameLife {
			e.Violations++
		} else {
			e.TakeOverCalls++
		}
	}
}

func (e *evidence) check(t *testing.T, steps []*step, overlaps []overlap, began time.Time) {
	t.Helper()
	if !e.Verdict.balanced() {
		t.Errorf("the books do not balance: %v", e.Verdict)
	}
	if most := *rate + *rate/50; e.Peak > most {
		t.Errorf("%d requests in one second, want at most %d", e.Peak, most)
	}
	if e.Violations > 0 {
		t.Errorf("%d times one worker made two calls at once for one customer and meter", e.Violations)
	}
	for _, o := range overlaps {
		if at := o.At.Sub(began).Seconds(); len(steps) > 0 && at < steps[0].Began {
			t.Errorf("two workers called at once for one customer and meter at %.1f s, before any fault", at)
		}
	}
	if e.OutageLetters > lettersInOutage*fleetSize {
		t.Errorf("%d events were buried in the outage, want at most %d", e.OutageLetters, lettersInOutage*fleetSize)
	}
	if e.Stripe.ByStatus[0] == 0 || e.Stripe.Duplicates == 0 {
		t.Errorf("no connection was cut, or nothing was sent twice: %+v", e.Stripe)
	}
}

// chaosTraffic is mostly good, with duplicates, conflicts and bad messages among it.
func chaosTraffic(t *testing.T) *traffic {
	t.Helper()
	tr := newTraffic(t, "chaos", *seed, 500)
	again, torn, bad := *events/20, *events/200, *events/50
	tr.good(*events-again-2*torn-bad, 50)
	tr.again(again)
	tr.conflicts(torn)
	tr.bad(bad)
	tr.shuffle()
	return tr
}

// billable is how many different events there are.
func (tr *traffic) billable() int {
	different := map[simulator.Event]bool{}
	for _, m := range tr.messages {
		if m.fate != buried {
			different[m.entry()] = true
		}
	}
	return len(different)
}

// chaos is the state of a run.
type chaos struct {
	*world
	began    time.Time
	billable int
	cuts     []simulator.Fault // played all the time

	lasting sync.WaitGroup // troubles that end by themselves
	mu      sync.Mutex
	busy    map[int]bool // workers in such a trouble
}

func (c *chaos) startFleet(t *testing.T) {
	t.Helper()
	for _, p := range c.workers {
		p.start(built(t, releaseWorker))
	}
	for _, p := range c.workers {
		until(t, "readiness", p.ready)
	}
	until(t, "each worker to own a share", func() bool {
		for _, p := range c.workers {
			if p.metric("meterworker_partitions_owned") < 1 {
				return false
			}
		}
		return true
	})
}

func (c *chaos) inject(t *testing.T, faults ...simulator.Fault) {
	t.Helper()
	if err := c.stripe.Inject(faults...); err != nil {
		t.Fatal(err)
	}
}

// pace holds the producers back so that they publish throughout the run.
func (c *chaos) pace(tr *traffic) func() {
	tick := time.NewTicker(time.Millisecond)
	c.t.Cleanup(tick.Stop)
	return func() {
		for {
			done := c.stripe.Totals().Counted * int64(len(tr.messages)) / int64(c.billable)
			if tr.confirmed.Load() < done+inHand {
				return
			}
			<-tick.C
		}
	}
}

// play lets each fault happen when its moment has come, and returns when the last one
// has ended.
func (c *chaos) play(t *testing.T, steps []*step) {
	t.Helper()
	for _, s := range steps {
		within(t, patience+*outage, fmt.Sprintf("%d events to be counted", s.Moment), func() bool { return c.stripe.Totals().Counted >= s.Moment })
		s.Worker = c.healthy(s.Worker)
		s.Counted, s.Began = c.stripe.Totals().Counted, time.Since(c.began).Seconds()
		t.Logf("%6.1f s, %6d counted: %s (%d)", s.Began, s.Counted, s.Kind, s.Worker)
		c.strike(t, s)
	}
	c.lasting.Wait()
}

// healthy is the worker drawn, or, while that one is in trouble, the next one that is
// not: a stopped worker that is killed has not been stopped for long.
func (c *chaos) healthy(drawn int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range fleetSize {
		if candidate := (drawn + i) % fleetSize; drawn >= 0 && !c.busy[candidate] {
			return candidate
		}
	}
	return drawn
}

func (c *chaos) mark(worker int, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[worker] = busy
}

func (c *chaos) strike(t *testing.T, s *step) {
	t.Helper()
	ended := func() { s.Ended = time.Since(c.began).Seconds() }
	switch s.Kind {
	case workerKilled:
		p := c.workers[s.Worker]
		p.kill()
		p.start(built(t, releaseWorker))
		ended()
	case serverKilled:
		c.broker.restart()
		ended()
	case stripeDown:
		c.last(s, *outage, func() { c.stripe.ClearFaults(); c.inject(t, simulator.Fault{Kind: simulator.Error503}) },
			func() { c.stripe.ClearFaults(); _ = c.stripe.Inject(c.cuts...) })
	case cutFromNATS:
		c.part(t, s, c.workers[s.Worker].toNATS, func(p *faultproxy.Proxy) { p.Part(faultproxy.Swallow) })
	case deafToNATS:
		c.part(t, s, c.workers[s.Worker].toNATS, func(p *faultproxy.Proxy) { p.Set(faultproxy.Down, faultproxy.Swallow) })
	case cutFromStripe:
		c.part(t, s, c.workers[s.Worker].toStripe, func(p *faultproxy.Proxy) { p.Part(faultproxy.Swallow) })
	case workerStopped:
		p := c.workers[s.Worker].process // this life of it: the next one is not stopped
		c.last(s, s.length(), func() { p.signal(syscall.SIGSTOP) }, func() { p.signal(syscall.SIGCONT) })
	}
}

func (s *step) length() time.Duration {
	if s.Long {
		return longTrouble
	}
	return shortTrouble
}

func (c *chaos) part(t *testing.T, s *step, proxy *faultproxy.Proxy, how func(*faultproxy.Proxy)) {
	t.Helper()
	c.last(s, s.length(), func() { how(proxy) }, func() {
		if err := proxy.Heal(); err != nil {
			t.Error(err)
		}
	})
}

// last begins a trouble that ends by itself; others may happen meanwhile.
func (c *chaos) last(s *step, length time.Duration, begin, end func()) {
	c.mark(s.Worker, true)
	begin()
	over := time.NewTimer(length)
	c.lasting.Go(func() {
		<-over.C
		end()
		c.mark(s.Worker, false)
		s.Ended = time.Since(c.began).Seconds()
	})
}

// rerun publishes a tenth of the events again, a day later, and kills a worker over it.
func (c *chaos) rerun(t *testing.T, tr *traffic) {
	t.Helper()
	c.stripe.Advance(forgotten)
	again := newTraffic(t, "later", *seed, 1)
	again.rerun(tr.messages, *events/10)
	again.publish(c.client.js, 64, nil)
	c.workers[0].kill()
	c.workers[0].start(built(t, releaseWorker))
	until(t, "the re-run to be terminal", c.settled)
	tr.messages = append(tr.messages, again.messages...)
}

// replayOutage publishes what was buried before the workers took the outage for one
// again, as an operator would; it returns how many those were.
func (c *chaos) replayOutage(t *testing.T) int {
	t.Helper()
	n := 0
	for _, letter := range c.client.letters() {
		if letter.Headers().Get("Meterworker-Reason") == "server_error" {
			n++
		}
	}
	replay := launch(t, "dlq replay", c.workers[0].environment(), built(t, releaseWorker), "dlq", "replay", "--reason", "server_error", "--yes")
	if code := replay.exit(); code != 0 {
		t.Errorf("dlq replay: exit code %d: %s", code, replay.log)
	}
	until(t, "the replays to be terminal", c.settled)
	return n
}
