package outbox

import "testing"

// TestHandOver: who waits for a partition sees that it was given up without a beat of
// anybody's, and what a leaving worker still owns is taken until it says otherwise.
func TestHandOver(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b := join(t, s, "a"), join(t, s, "b")
	beat(t, a)
	for p := range usual.Partitions {
		a.Owns(p, true)
	}
	beat(t, a, b, a, b)
	waits := func(p int) (mine, taken bool) {
		t.Helper()
		if err := b.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b.Proposed(p)
	}
	a.Retire()
	tell(t, a)
	for p := range usual.Partitions {
		if mine, taken := waits(p); !mine || !taken {
			t.Errorf("partition %d of a leaving worker: proposed to the other %t, taken %t", p, mine, taken)
		}
		if mine, _ := a.Proposed(p); mine {
			t.Errorf("partition %d is proposed to a worker that leaves", p)
		}
	}
	for p := range usual.Partitions {
		a.Owns(p, false)
		tell(t, a)
		if mine, taken := waits(p); !mine || taken {
			t.Errorf("partition %d was given up: proposed to the other %t, taken %t", p, mine, taken)
		}
	}
	if b.Live() != 2 {
		t.Errorf("%d members, want both until the first has left", b.Live())
	}
}

// TestTellIsNoBeat: a worker that tells the others what it gave up is not taken for alive
// by it, and looks at nobody's beat.
func TestTellIsNoBeat(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b := join(t, s, "a"), join(t, s, "b")
	beat(t, a, b)
	for range missedBeats + 1 {
		tell(t, a)
		beat(t, b)
	}
	if b.Live() != 1 {
		t.Error("a worker without a beat is still there")
	}
	tell(t, a) // it comes back by telling, but stays gone for who has missed its beats
	if err := b.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	beat(t, b, b, b, b, b)
	if b.Live() != 1 {
		t.Error("a worker without a beat has come back")
	}
}

// TestLookKeepsOurOwn: what this worker owns is its own word, whatever the document says.
func TestLookKeepsOurOwn(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b := join(t, s, "a"), join(t, s, "b")
	beat(t, a, b, a)
	if err := w.js.DeleteKeyValue(t.Context(), ControlBucket); err != nil {
		t.Fatal(err)
	}
	if err := a.Look(t.Context()); err == nil {
		t.Error("a look at a bucket that is gone says nothing")
	}
	if a.Live() != 2 {
		t.Errorf("%d members after a look that failed, want those of before", a.Live())
	}
	tell(t, a)
	if a.Live() != 2 {
		t.Errorf("%d members after the bucket was made anew, want those of before", a.Live())
	}
}

func tell(t *testing.T, m *Members) {
	t.Helper()
	if err := m.Tell(t.Context()); err != nil {
		t.Fatal(err)
	}
}
