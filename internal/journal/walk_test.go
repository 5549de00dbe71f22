package journal_test

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

// A random walk over crashes, lost answers, take-overs, forgotten acks and pauses of
// up to 30 h, with workers that follow the delivery rule in its plainest form and a
// Stripe that forgets an identifier after exactly 24 h. Whatever happens, nothing
// is counted twice, and at the end everything is delivered or buried.

var (
	walks    = flag.Int("walks", 300, "number of random walks")
	walkSeed = flag.Uint64("walkseed", 0, "the one walk to run; 0: all")
)

const (
	safeWindow   = 23 * time.Hour
	stripeMemory = 24 * time.Hour
)

func TestRandomWalks(t *testing.T) {
	seen := map[string]int{}
	for seed := uint64(1); seed <= uint64(*walks); seed++ {
		if *walkSeed != 0 {
			seed = *walkSeed
		}
		synctest.Test(t, func(t *testing.T) { newWalk(t, seed, seen).run() })
		if t.Failed() {
			t.Fatalf("again with: go test -run TestRandomWalks ./internal/journal -walkseed %d", seed)
		}
		if *walkSeed != 0 {
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%6d × %s", seen[name], name)
	}
	for _, name := range everything {
		if seen[name] == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
}

// everything is what the walks must have come by to prove anything.
var everything = []string{
	"ambiguous before sending", "ambiguous at the last look", "stale intent renewed", "sent by a former owner",
	"counted, answer lost", "refused after a doubt", "duplicate answer is the delivery", "conflict", "letter finished by another life",
	"ack forgotten", "crash", "intent refused by the fence", "record refused by the fence", "released in doubt", "released unsent",
	"delivered before", "delivered with other content",
}

// message is one message of the outbox, and how it was settled.
type message struct {
	journal.Entry

	body      uint64
	settled   bool
	delivered bool
}

type walk struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	seen     map[string]int
	store    *journaltest.Store
	stripe   stripe
	messages []*message
	workers  []*worker
	calm     bool // no mishaps any more
}

func newWalk(t *testing.T, seed uint64, seen map[string]int) *walk {
	t.Helper()
	w := &walk{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), seen: seen, store: journaltest.New(),
		stripe: stripe{counted: map[uint64]int{}, at: map[uint64]time.Time{}, content: map[uint64]uint32{}},
	}
	if seed%2 == 0 {
		w.store.SetSingle()
	}
	if seed%5 == 0 {
		w.store.SetSkew(time.Duration(w.rng.IntN(120)-60) * time.Minute)
	}
	return w
}

func (w *walk) note(what string) { w.seen[what]++ }

func (w *walk) run() {
	for range 3 {
		w.publish()
	}
	for range 220 {
		w.step()
		synctest.Wait()
	}
	w.finish()
}

func (w *walk) step() {
	switch n := w.rng.IntN(100); {
	case n < 2:
		w.publish()
	case n < 7:
		w.claim()
	case n < 9:
		w.crash()
	case n < 28:
		w.fetch()
	case n < 40:
		pass(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
	case n < 42:
		pass(time.Duration(w.rng.IntN(120)) * time.Minute)
	case n < 44:
		pass(time.Duration(w.rng.IntN(30*60)) * time.Minute)
	default:
		w.advance()
	}
}

// publish stores a new event, or one whose identifier was used before: a replay, or
// a producer's mistake.
func (w *walk) publish() {
	sequence := uint64(len(w.messages)) + 1
	e := journal.Entry{Sequence: sequence, Key: sequence * 1000, Fingerprint: 1}
	if len(w.messages) > 0 && w.rng.IntN(4) > 0 {
		e.Key = w.messages[w.rng.IntN(len(w.messages))].Key
		if w.rng.IntN(3) == 0 {
			e.Fingerprint = uint32(sequence) + 1
		}
	}
	w.messages = append(w.messages, &message{Entry: e, body: sequence * 7})
}

// worker is one process. It does not end when its partition is lost: its goroutines
// may have been frozen.
type worker struct {
	w       *walk
	client  *journaltest.Client
	owned   *journal.Partition // nil until it is claimed
	claimed chan *journal.Partition
	cancel  context.CancelFunc
	inHand  []*delivery
}

// claim starts a process that takes the partition over.
func (w *walk) claim() {
	if len(w.workers) >= 3 {
		return
	}
	faults := rand.New(rand.NewPCG(w.seed, uint64(len(w.messages)+w.rng.IntN(1<<30))))
	client := w.store.Client(func(c journaltest.Call) journaltest.Fault { return mishap(faults, c) })
	ctx, cancel := context.WithCancel(context.Background())
	k := &worker{w: w, client: client, claimed: make(chan *journal.Partition, 1), cancel: cancel}
	w.workers = append(w.workers, k)
	go func() {
		defer close(k.claimed)
		if p, err := journal.Claim(ctx, client, config(), number); err == nil {
			k.claimed <- p
		}
	}()
}

func mishap(rng *rand.Rand, c journaltest.Call) journaltest.Fault {
	var f journaltest.Fault
	switch rng.IntN(16) {
	case 0, 1:
		f.Lose = true
		f.After = time.Duration(rng.IntN(4000)) * time.Millisecond
	case 2:
		f.Refuse = true
	case 3:
		f.Before = time.Duration(rng.IntN(20)) * time.Second
	case 4:
		if c.Op == journaltest.Append {
			f.Copy = time.Duration(rng.IntN(600)) * time.Second
		}
	}
	return f
}

// partition is the worker's, as soon as it is claimed.
func (k *worker) partition() *journal.Partition {
	select {
	case p, ok := <-k.claimed:
		if ok {
			k.owned = p
		}
	default:
	}
	return k.owned
}

// end kills the process.
func (k *worker) end() {
	k.client.Crash()
	k.cancel()
	if k.owned == nil {
		k.owned = <-k.claimed
	}
	if k.owned != nil {
		_ = k.owned.Close(context.Background())
	}
	k.w.workers = slices.DeleteFunc(k.w.workers, func(o *worker) bool { return o == k })
}

func (w *walk) crash() {
	if len(w.workers) > 0 {
		w.note("crash")
		w.workers[w.rng.IntN(len(w.workers))].end()
	}
}

// fetch delivers a message to a worker, perhaps one that was acked: acks can be
// forgotten. A worker has one message of an identifier in hand at a time.
func (w *walk) fetch() {
	if len(w.workers) == 0 {
		return
	}
	k, m := w.workers[len(w.workers)-1], w.messages[w.rng.IntN(len(w.messages))]
	busy := slices.ContainsFunc(k.inHand, func(d *delivery) bool { return d.m.Key == m.Key })
	if k.partition() == nil || k.owned.Err() != nil || busy || m.settled && w.rng.IntN(5) > 0 {
		return
	}
	if m.settled {
		w.note("ack forgotten")
	}
	k.inHand = append(k.inHand, &delivery{k: k, m: m, next: (*delivery).consult})
}

// advance takes one delivery one step further. Mostly one of the latest worker: a
// former owner is often frozen for long.
func (w *walk) advance() {
	if len(w.workers) == 0 {
		return
	}
	k := w.workers[len(w.workers)-1]
	if w.rng.IntN(6) == 0 {
		k = w.workers[w.rng.IntN(len(w.workers))]
	}
	if len(k.inHand) > 0 {
		k.inHand[w.rng.IntN(len(k.inHand))].advance()
	}
}

// finish lets the mishaps end: one worker settles everything.
func (w *walk) finish() {
	for len(w.workers) > 0 {
		w.workers[0].end()
	}
	w.calm = true
	pass(time.Minute) // a marker that was under way would take the partition
	client := w.store.Client(nil)
	p, err := journal.Claim(w.t.Context(), client, config(), number)
	if err != nil {
		w.t.Fatal(err)
	}
	k := &worker{w: w, client: client, owned: p, cancel: func() {}}
	w.workers = append(w.workers, k)
	for round := 0; round < 30 && slices.ContainsFunc(w.messages, func(m *message) bool { return !m.settled }); round++ {
		for _, m := range w.messages {
			if !m.settled {
				d := &delivery{k: k, m: m, next: (*delivery).consult}
				for k.inHand = []*delivery{d}; len(k.inHand) > 0; synctest.Wait() {
					d.advance()
				}
			}
		}
		pass(time.Hour)
	}
	if err := k.owned.Err(); err != nil {
		w.t.Errorf("seed %d: the last owner has ended: %v", w.seed, err)
	}
	k.end()
	w.check()
}

// check holds the books against Stripe's.
func (w *walk) check() {
	for _, m := range w.messages {
		if !m.settled {
			w.t.Errorf("seed %d: message %d is not settled", w.seed, m.Sequence)
		}
		if m.delivered && (w.stripe.counted[m.Key] != 1 || w.stripe.content[m.Key] != m.Fingerprint) {
			w.t.Errorf("seed %d: message %d is settled as delivered; its identifier was counted %d times", w.seed, m.Sequence, w.stripe.counted[m.Key])
		}
	}
}
