package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
)

// life is one worker process from its start to its end. Whatever it does outside goes
// through [life.effect].
type life struct {
	w      *world
	number int

	gate    *delivery.Gate
	worker  *delivery.Worker
	lanes   *ratelimit.Lanes
	bucket  *ratelimit.Bucket
	v1      *sender.V1 // nil: the requests are made without HTTP
	v2      *sender.V2 // nil: they are made over API v1
	beside  ratelimit.NoLanes
	client  *journaltest.Client
	stop    context.Context // a life outlives the call that begins it
	end     context.CancelFunc
	cut     context.Context // the same
	cutNow  context.CancelFunc
	crashed chan struct{}
	serving sync.WaitGroup

	// Guarded by w.mu.
	dead     bool
	ending   bool // drained or being drained
	thawsAt  time.Time
	thawed   chan struct{} // closed when a frost ends early
	points   int
	plan     []mishap
	noStore  time.Time // without the store until then
	noStripe time.Time // without Stripe until then
	key      string
	state    string
	stateAt  time.Time
	calls    map[string]uint64 // by what is called

	grantedAt  time.Time
	asked      int // requests
	mendedAt   time.Time
	refusedAt  time.Time // first answer that blamed the set-up since the last mending
	afterwards int       // requests begun after that
	attempts   map[uint64]*attempts
	running    map[string]int // requests under way by lane
	buriedIn   map[int]int    // server errors buried, by outage
}

// mishap is what happens to a life at one of its points.
type mishap struct {
	at     int           // the point, counted from 1
	freeze time.Duration // 0: it is killed
}

var errDead = errors.New("the process is dead")

func (w *world) newLife() *life {
	l := &life{
		w: w, crashed: make(chan struct{}), thawed: make(chan struct{}),
		calls: map[string]uint64{}, attempts: map[uint64]*attempts{}, running: map[string]int{}, buriedIn: map[int]int{},
	}
	w.lock(func() {
		w.lives = append(w.lives, l)
		l.number = len(w.lives)
		l.key = w.stripe.key
		l.plan = w.mishaps(l.number)
		w.note(l.number, "starts", 0, "")
	})
	l.stop, l.end = context.WithCancel(context.Background())
	l.cut, l.cutNow = context.WithCancel(context.Background())
	l.client = w.journal.Client(l.journalFault)
	l.gate = l.newGate()
	l.lanes = ratelimit.NewLanes(func(int) {})
	lessor, ceiling := l.lessor()
	l.bucket = ratelimit.NewBucket(ratelimit.Config{Lessor: lessor, Granted: l.permitted, Ceiling: ceiling})
	l.serving.Go(func() { l.bucket.Run(l.cut) })
	l.obeyFirst()
	cfg, parts := delivery.Config{
		SafeWindow: safeWindow, Epoch: epoch, Ahead: 4, Random: l.random("back-off"),
	}, delivery.Parts{
		DeadLetters: dlq{l}, Gate: l.gate, Metrics: w.metrics, Log: zap.NewNop(),
	}
	if w.stream {
		l.overStream(&cfg, &parts)
	} else {
		parts.Sender, parts.Permits, parts.Lanes = l.newSender(), permits{l}, l.lanes
	}
	l.worker = delivery.NewWorker(cfg, parts)
	return l
}

// obeyFirst takes over the order that is in force.
func (l *life) obeyFirst() {
	var held bool
	l.w.lock(func() { held = l.w.held })
	l.obey(held)
}

// random is a source of the worker's jitter.
func (l *life) random(of string) func() float64 {
	var mu sync.Mutex
	source := l.w.dice.draw(of, uint64(l.number))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Float64()
	}
}

// mishaps draws when a life is killed or frozen.
func (w *world) mishaps(number int) []mishap {
	r := w.dice.draw("mishaps", uint64(number))
	span := 10 + 8*w.outbox.planned
	var plan []mishap
	if w.met[killed] && !w.calm && r.IntN(3) > 0 {
		plan = append(plan, mishap{at: 1 + r.IntN(span)})
	}
	if w.met[frozen] {
		for range r.IntN(4) {
			plan = append(plan, mishap{1 + r.IntN(span), between(r, 100*time.Millisecond, 2*time.Minute)})
		}
	}
	if w.met[frozenLong] && r.IntN(3) > 0 {
		plan = append(plan, mishap{1 + r.IntN(span), between(r, time.Minute, 30*time.Hour)})
	}
	return plan
}

// point is a place at which the process may be killed or frozen. It reports whether the
// process lives.
func (l *life) point(what string, sequence uint64) bool {
	l.tie(what, sequence)
	if l.awake() {
		l.tie(what, sequence)
	}
	l.pass(what, sequence)
	if l.awake() {
		l.tie(what, sequence)
	}
	return !l.isDead()
}

// tie takes a few nanoseconds, different ones for each message and step, so that what
// several goroutines do at one instant has an order that the scheduler does not choose.
func (l *life) tie(what string, sequence uint64) {
	pass(time.Duration(1 + (hashOf(what)^(sequence*0x9e3779b97f4a7c15)^uint64(l.number)<<7)%9973))
}

// pass counts a point and begins what is planned for it, without waiting.
func (l *life) pass(what string, sequence uint64) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.dead {
		return
	}
	l.points++
	l.w.note(l.number, what, sequence, "")
	i := slices.IndexFunc(l.plan, func(m mishap) bool { return m.at == l.points })
	switch {
	case i < 0 || l.w.calm:
	case l.plan[i].freeze == 0:
		l.w.seen.note(string(killed))
		l.die()
	default:
		k := frozen
		if l.plan[i].freeze > 2*time.Minute {
			k = frozenLong
		}
		l.w.seen.note(string(k))
		l.freeze(l.plan[i].freeze)
	}
}

// effect does something outside, with a point before and a point after it.
func (l *life) effect(what string, sequence uint64, do func() error) error {
	if !l.point(what, sequence) {
		return errDead
	}
	err := do()
	if !l.point(what+", done", sequence) {
		return errDead
	}
	return err
}

// awake waits while the process is frozen; it reports whether it was.
func (l *life) awake() (thawed bool) {
	for ; ; thawed = true {
		var wait time.Duration
		var early chan struct{}
		l.w.lock(func() { wait, early = time.Until(l.thawsAt), l.thawed })
		if wait <= 0 || l.isDead() {
			return thawed
		}
		select {
		case <-time.After(wait):
		case <-early:
		case <-l.crashed:
		}
	}
}

// freeze stops the process, unless it stands still already. Its heartbeats stop, too.
// w.mu is held.
func (l *life) freeze(d time.Duration) {
	if l.thawsAt.After(time.Now()) {
		return
	}
	l.thawsAt = time.Now().Add(d)
	l.w.note(l.number, "is frozen", 0, d.String())
	l.w.outbox.silent(l)
	l.w.fleet.frozen(l, d)
	l.w.beside.Go(func() {
		l.awake()
		l.w.lock(func() {
			l.w.note(l.number, "thaws", 0, "")
			l.w.outbox.heard(l)
			l.w.wake()
		})
	})
}

// thaw ends a frost. w.mu is held.
func (l *life) thaw() {
	l.thawsAt = time.Time{}
	close(l.thawed)
	l.thawed = make(chan struct{})
}

// die is kill -9. w.mu is held.
func (l *life) die() {
	if l.dead {
		return
	}
	l.w.note(l.number, "is killed", 0, "")
	l.dead = true
	l.w.outbox.silent(l)
	close(l.crashed)
	l.client.Crash()
	l.end()
	l.cutNow()
	l.w.wake()
}

func (l *life) isDead() bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.dead
}

// drain ends the life in order and waits for its end; also for that of a dead one.
func (l *life) drain() {
	l.w.lock(func() { l.ending = true; l.w.wake() })
	l.end()
	timer := time.AfterFunc(22*time.Second, l.cutNow)
	defer timer.Stop()
	for _, done := range l.w.fleet.ends(l) {
		<-done
	}
	l.lanes.Wait()
	l.beside.Wait()
	l.cutNow()
	l.serving.Wait()
	if l.v1 != nil {
		l.v1.Close()
	}
	if l.v2 != nil {
		l.v2.Close()
	}
	l.w.lock(func() { l.w.note(l.number, "has ended", 0, "") })
}

// memory is how long the ledger remembers deliveries.
func (w *world) memory() time.Duration {
	if w.met[shortMemory] {
		return 48 * time.Hour
	}
	return 36 * 24 * time.Hour
}

// serve claims the partition and delivers its messages until it is given up or lost.
func (l *life) serve(stop context.Context, p int) error {
	store := owner{l}
	owned, err := journal.Claim(stop, store, journal.Config{
		Worker: fmt.Sprintf("w%d", l.number), Nonce: fmt.Sprintf("n%d", l.number), Window: l.w.memory(), Limit: 1 << 30,
	}, p)
	if err != nil {
		return err
	}
	l.w.lock(func() { l.w.note(l.number, fmt.Sprintf("owns partition %d", p), 0, owned.Life()) })
	l.worker.Serve(stop, l.cut, delivery.Partition{
		Number: p, Outbox: &pull{l: l, stop: stop, lost: owned.Lost(), partition: p, held: map[uint64]*inHand{}},
		Journal: witness{owned, l}, Places: func() int { return 16 },
	})
	reason := owned.Err()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = owned.Close(ctx) // what it could not write stays open, for the next owner
	return reason
}

// reaches reports whether the process can speak with the store. w.mu is held.
func (l *life) reaches() bool {
	now := time.Now()
	return !l.dead && !l.noStore.After(now) && !l.w.down.After(now)
}
