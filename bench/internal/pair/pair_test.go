package pair

import (
	"bytes"
	"strings"
	"testing"
)

// Both programs take their turns on a small backlog, and each figure is measured.
func TestRounds(t *testing.T) {
	p, err := Open(t.Context(), Work{Rate: 200, Events: 300, Rounds: 1, Customers: 50, Latency: "1ms"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stage.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out bytes.Buffer
	if err := p.Rounds(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Contender{p.A, p.B} {
		if len(c.Turns) != 1 || !strings.Contains(out.String(), c.Name) {
			t.Fatalf("%s has had %d turns, want 1: %s", c.Name, len(c.Turns), out.String())
		}
		turn := c.Turns[0]
		if turn.PerSecond <= 0 || turn.CPU < 0 || turn.RSS < 1<<20 || turn.Connections < 1 {
			t.Errorf("%s: %+v", c.Name, turn)
		}
	}
	count, err := p.Stage.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arrivals, err := p.Stage.Arrivals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(arrivals) < 600 || len(arrivals) > count.Requests {
		t.Errorf("%d identifiers arrived with %d requests", len(arrivals), count.Requests)
	}
}

func TestVerdict(t *testing.T) {
	p := Pair{
		A: &Contender{Name: "worker", Turns: []Turn{{CPU: 3}, {CPU: 2}, {CPU: 8}}},
		B: &Contender{Name: "bare", Turns: []Turn{{CPU: 2}, {CPU: 2}, {CPU: 4}}},
	}
	const want = "CPU, worker ÷ bare: 1.50 (1.50, 1.00, 2.00)"
	if got := p.Verdict("CPU", func(t Turn) float64 { return t.CPU }); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median of an even number: %v", got)
	}
}
