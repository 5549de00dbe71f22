package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

// world is everything outside of a worker: what survives its death.
type world struct {
	t       tester
	store   *store
	outbox  *outbox
	stripe  *stripe
	letters *letters
	permits *permits
	skew    Skew
	tracer  Tracer
	metrics *metrics.Set
	logs    *observer.ObservedLogs
	logger  *zap.Logger

	mu     sync.Mutex
	trace  []string
	faults map[string]fault
	crash  crash
	nap    crash // of 30 h, at one effect
	lives  int

	cfg    Config
	places int
	open   bool // no lanes: work runs beside each other
}

// tester is what a test and a property's run have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// fault is planned for the next effect of a name.
type fault struct {
	performed bool // the effect takes place all the same
	lost      bool // and the partition is lost with it
}

// crash is planned for one effect by its number in the trace, from 1.
type crash struct {
	at        int
	performed bool
}

var errFault = errors.New("planned fault")

func newWorld(t tester) *world {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	w := &world{
		t: t, store: newStore(), faults: map[string]fault{}, logs: logs, logger: zap.New(core),
		metrics: metrics.New(metrics.Labels{BreakerStates: States()}), places: 64,
		cfg: Config{SafeWindow: window, Epoch: epoch, Ahead: 8, Random: func() float64 { return 0.5 }},
	}
	w.outbox = &outbox{w: w, changed: make(chan struct{}, 1), published: make(chan struct{}, 1)}
	w.stripe = &stripe{w: w, script: map[string][]reply{}, counted: map[string][]time.Time{}}
	w.letters = &letters{w: w}
	w.permits = &permits{}
	return w
}

// life is one worker from its claim of the partition to its end. dead says that
// nothing it does reaches the outside any more.
type life struct {
	w       *world
	number  int
	gate    *Gate
	worker  *Worker
	lanes   *ratelimit.Lanes
	beside  ratelimit.NoLanes
	journal *journal.Partition
	stop    context.Context // a life outlives the call that begins it
	end     context.CancelFunc
	cut     context.Context // a life outlives the call that begins it
	cutNow  context.CancelFunc
	served  chan struct{}
	dead    bool // guarded by w.mu
	states  []string
}

// start claims the partition and serves it.
func (w *world) start() *life {
	w.t.Helper()
	w.mu.Lock()
	w.lives++
	l := &life{w: w, number: w.lives, served: make(chan struct{})}
	w.mu.Unlock()
	var err error
	l.journal, err = journal.Claim(context.Background(), w.store, journal.Config{
		Worker: "w", Nonce: fmt.Sprintf("n%d", l.number), Window: 36 * 24 * time.Hour, Limit: 1 << 30,
	}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	l.stop, l.end = context.WithCancel(context.Background())
	l.cut, l.cutNow = context.WithCancel(context.Background())
	l.gate = NewGate(func(state, _ string) { l.states = append(l.states, state) }, func() float64 { return 0.5 })
	l.lanes = ratelimit.NewLanes(func(int) {})
	lanes := Lanes(l.lanes)
	if w.open {
		lanes = &l.beside
	}
	l.worker = NewWorker(w.cfg, Parts{
		Sender: l.w.stripe.of(l), Permits: w.permits, DeadLetters: dlq{l}, Lanes: lanes,
		Gate: l.gate, Skew: &w.skew, Tracer: w.tracer, Metrics: w.metrics, Log: w.logger,
	})
	go func() {
		defer close(l.served)
		l.worker.Serve(l.stop, l.cut, Partition{Outbox: pull{l}, Journal: traced{l.journal, l}, Places: func() int { return w.places }})
	}()
	return l
}

// drain ends the life in order.
func (l *life) drain() {
	l.end()
	<-l.served
	l.lanes.Wait()
	l.beside.Wait()
	l.cutNow()
	_ = l.journal.Close(context.Background())
}

// do performs one effect on the outside and notes it, unless a fault or a crash is
// planned for it.
func (l *life) do(name string, effect func()) error {
	l.w.mu.Lock()
	if l.dead {
		l.w.mu.Unlock()
		return errFault
	}
	l.w.trace = append(l.w.trace, name)
	crashes := l.w.crash.at == len(l.w.trace)
	f, faulty := l.w.faults[name]
	delete(l.w.faults, name)
	l.dead = crashes
	performed := !crashes && !faulty || crashes && l.w.crash.performed || faulty && f.performed
	naps := l.w.nap.at == len(l.w.trace)
	l.w.mu.Unlock()
	if naps && !l.w.nap.performed {
		pass(nap)
	}
	if performed {
		effect()
	}
	if naps && l.w.nap.performed {
		pass(nap)
	}
	if crashes {
		l.die()
	}
	if faulty && f.lost {
		l.lose()
	}
	if crashes || faulty {
		return errFault
	}
	return nil
}

// die is kill -9, as far as the outside can tell.
func (l *life) die() {
	l.end()
	l.cutNow()
	l.lose()
	l.w.outbox.orphan(l)
}

// lose ends the partition as another owner's claim does.
func (l *life) lose() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.journal.Close(ended)
}

func (l *life) isDead() bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.dead
}

// effects returns the trace so far.
func (w *world) effects() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trace)
}

func (w *world) fail(name string, f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[name] = f
}

// traced is a life's journal, noted in the trace.
type traced struct {
	*journal.Partition
	l *life
}

func (j traced) Intend(ctx context.Context, e journal.Entry) (m journal.Moment, err error) {
	if fault := j.l.do("intent", func() { m, err = j.Partition.Intend(ctx, e) }); fault != nil {
		return journal.Moment{}, fault
	}
	return m, err
}

func (j traced) Record(ctx context.Context, entries ...journal.Entry) (err error) {
	name := "record"
	for _, e := range entries {
		name += " " + e.State.String()
	}
	if fault := j.l.do(name, func() { err = j.Partition.Record(ctx, entries...) }); fault != nil {
		return fault
	}
	return err
}

// letters is the dead-letter stream.
type letters struct {
	w  *world
	mu sync.Mutex

	stored    []letter
	published int // calls, failed ones included
	searched  int
	refuse    int                     // so many publications fail, nothing is stored
	mislead   int                     // so many publications fail although the letter is stored
	blind     int                     // so many searches fail
	panics    bool                    // the next publication panics after it was stored
	during    func(deadletter.Letter) // happens before the answer of the next search comes
}

type letter struct {
	deadletter.Letter
	id   string
	at   time.Time
	body string
	head map[string]string
}

// dlq is the stream as one life reaches it.
type dlq struct{ l *life }

func (q dlq) Publish(_ context.Context, l deadletter.Letter, header map[string]string, body []byte) (err error) {
	if fault := q.l.do("publish", func() { err = q.l.w.letters.publish(l, header, body) }); fault != nil {
		return fault
	}
	return err
}

func (q dlq) Stored(ctx context.Context, l deadletter.Letter, _ time.Time) (bool, error) {
	s := q.l.w.letters
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searched++
	if q.l.isDead() || ctx.Err() != nil {
		return false, errFault
	}
	if s.blind > 0 {
		s.blind--
		return false, errFault
	}
	found := slices.ContainsFunc(s.stored, func(have letter) bool { return have.id == l.MessageID(epoch) })
	if during := s.during; during != nil {
		s.during = nil
		s.mu.Unlock()
		during(l)
		s.mu.Lock()
	}
	return found, nil
}

func (s *letters) publish(l deadletter.Letter, header map[string]string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published++
	if s.refuse > 0 {
		s.refuse--
		return errFault
	}
	id := l.MessageID(epoch)
	known := func(have letter) bool { return have.id == id && time.Since(have.at) < 2*time.Minute }
	if !slices.ContainsFunc(s.stored, known) {
		s.stored = append(s.stored, letter{l, id, time.Now(), string(body), header})
	}
	if s.panics {
		s.panics = false
		panic("published")
	}
	if s.mislead > 0 {
		s.mislead--
		return errFault
	}
	return nil
}

// all returns the stored letters.
func (s *letters) all() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stored)
}
