package journal_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/journal"
)

// census reads the stream as it is and holds it against the fence: after a marker
// there are only writes of the life that set it, and each write once.
func (b *broker) census() {
	b.t.Helper()
	js := b.connect()
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	consumer, err := js.OrderedConsumer(ctx, journal.StreamName, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.t.Fatal(err)
	}
	life, seen := "", map[string]bool{}
	for left := consumer.CachedInfo().NumPending; left > 0; {
		m, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			b.t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			b.t.Fatal(err)
		}
		left = meta.NumPending
		id := m.Headers().Get(jetstream.MsgIDHeader)
		if seen[id] {
			b.t.Errorf("write %s is stored twice", id)
		}
		seen[id] = true
		if strings.HasSuffix(m.Subject(), ".owner") {
			life = strings.TrimSuffix(id, "-m")
		} else if id[:strings.LastIndexByte(id, '-')] != life {
			b.t.Errorf("write %s was stored while %s owned the partition", id, life)
		}
	}
	if len(seen) == 0 {
		b.t.Error("nothing is stored")
	}
}

// books is what the owners were told was stored.
type books struct {
	mu     sync.Mutex
	states map[int]journal.State
	mark   int           // number of sequences
	marked chan struct{} // closed when there are so many
}

func (k *books) note(i int, s journal.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states[i] = s
	if k.marked != nil && len(k.states) >= k.mark {
		close(k.marked)
		k.marked = nil
	}
}

// reach returns what is closed when n sequences are in the books.
func (k *books) reach(n int) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	marked := make(chan struct{})
	if len(k.states) >= n {
		close(marked)
	} else {
		k.mark, k.marked = n, marked
	}
	return marked
}

// check holds the books against what the next owner finds.
func (k *books) check(t *testing.T, o *owner, atLeast int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.states) < atLeast {
		t.Errorf("only %d sequences in the books, want %d", len(k.states), atLeast)
	}
	for i, state := range k.states {
		known := o.Lookup(question(numbered(i)))
		switch {
		case state == journal.Delivered && known.Verdict != journal.WasDelivered:
			t.Errorf("sequence %d was recorded as delivered and is %s", i, known.Verdict)
		case state == journal.Open && known.Verdict == journal.Fresh && !known.Unknown:
			t.Errorf("the intent of sequence %d is lost", i)
		}
	}
}

// work begins and delivers sequences, one after the other, until it is refused or
// has come to the end.
func (k *books) work(o *owner, from, to, step int) {
	for i := from; i < to; i += step {
		if _, err := o.Intend(context.Background(), numbered(i)); err != nil {
			return
		}
		k.note(i, journal.Open)
		if o.Record(context.Background(), as(numbered(i), journal.Delivered)) != nil {
			return
		}
		k.note(i, journal.Delivered)
	}
}

func TestTwoOwnersFight(t *testing.T) {
	const rounds, workers = 8, 4
	b := startBroker(t)
	k := &books{states: map[int]journal.State{}}
	var fight sync.WaitGroup
	for side := range 2 {
		store := b.store()
		fight.Go(func() {
			for round := range rounds {
				o := take(t, store)
				if o == nil {
					return
				}
				base := (round*2 + side) * 1000
				var work sync.WaitGroup
				for w := range workers {
					work.Go(func() { k.work(o, base+w, base+400, workers) })
				}
				work.Wait()
				o.leave()
			}
		})
	}
	fight.Wait()
	b.census()
	k.check(t, take(t, b.store()), 2*rounds)
}

func TestServerRestartsInTheMiddleOfWrites(t *testing.T) {
	const workers, sequences, restarts = 16, 3200, 3
	b := startBroker(t)
	o := take(t, b.store())
	k := &books{states: map[int]journal.State{}}
	var work sync.WaitGroup
	defer work.Wait()
	for w := range workers {
		work.Go(func() { k.work(o, w, sequences, workers) })
	}
	for i := range restarts {
		select {
		case <-k.reach((i + 1) * sequences / (restarts + 2)): // in the middle of it
			b.Restart()
		case <-o.Lost():
			t.Fatalf("the partition ended: %v", o.Err())
		}
	}
	work.Wait()
	if err := o.Err(); err != nil {
		t.Fatalf("the partition ended: %v", err)
	}
	if n := o.Open(); n != 0 {
		t.Errorf("%d intents are open", n)
	}
	o.leave()
	b.census()
	next := take(t, b.store())
	k.check(t, next, sequences)
	if _, n := next.Ledger.Size(); n != sequences {
		t.Errorf("%d identifiers are known, want %d", n, sequences)
	}
}

func TestTwentyThousandEntriesAreRead(t *testing.T) {
	const entries = 20_000
	b := startBroker(t)
	o := take(t, b.store())
	var all sync.WaitGroup
	for i := range entries {
		all.Go(func() { o.record(as(numbered(i), journal.Delivered)) })
	}
	all.Wait()
	if _, n := take(t, b.store()).Ledger.Size(); n != entries {
		t.Errorf("%d identifiers were read, want %d", n, entries)
	}
}
