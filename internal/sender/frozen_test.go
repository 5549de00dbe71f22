package sender

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFrozenBeforeTheFirstByte: the word of Ready is good for one attempt's time. A process
// that was frozen after it writes nothing; one that had begun to write may end.
func TestFrozenBeforeTheFirstByte(t *testing.T) {
	for name, c := range map[string]struct {
		frozen  time.Duration
		written bool
		want    bool
	}{
		"at once":                {0, false, true},
		"within the time-out":    {10 * time.Second, false, true},
		"past it":                {10*time.Second + 1, false, false},
		"30 h":                   {30 * time.Hour, false, false},
		"30 h, after first byte": {30 * time.Hour, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &exchange{v: &V1{timeout: 10 * time.Second}, stage: released, written: c.written, ready: time.Now()}
				<-time.After(c.frozen)
				if got := x.admit(); got != c.want || x.written != (c.want || c.written) {
					t.Errorf("admitted %v, want %v; written %v", got, c.want, x.written)
				}
			})
		})
	}
}

// TestFrozenMachine: a machine that slept has a monotonic clock that stood still.
func TestFrozenMachine(t *testing.T) {
	x := &exchange{v: &V1{timeout: 10 * time.Second}}
	x.ready = time.Now().Round(0).Add(-30 * time.Hour) // without a monotonic reading only the wall clock counts
	if !x.stale(time.Now()) {
		t.Error("30 h by the wall clock are not noticed")
	}
}
