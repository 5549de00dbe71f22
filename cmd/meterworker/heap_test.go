package main

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestHeapPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: mostGC, 1 << 20: mostGC, 16 << 20: mostGC, 32 << 20: 200, 40 << 20: 160, 64 << 20: leastGC, 1 << 30: leastGC, 1 << 60: leastGC,
	} {
		if got := heapPercent(live, heapRoom); got != want {
			t.Errorf("%d bytes: %d, want %d", live, got, want)
		}
	}
}

// The heap of a test is small: it gets room, unless the environment says otherwise.
func TestRoomForHeap(t *testing.T) {
	before := debug.SetGCPercent(leastGC)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "100")
	roomForHeap(heapRoom)
	if got := debug.SetGCPercent(leastGC); got != leastGC {
		t.Errorf("with GOGC: %d", got)
	}
	if err := os.Unsetenv("GOGC"); err != nil { // Setenv restores it
		t.Fatal(err)
	}
	roomForHeap(heapRoom)
	if got := debug.SetGCPercent(leastGC); got <= leastGC || got > mostGC {
		t.Errorf("without GOGC: %d, want more than %d", got, leastGC)
	}
}
