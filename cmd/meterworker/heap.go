package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// heapRoom is how much is allocated between two collections while the heap is
	// small. At 1,000 events a second the live heap is some 25 MB, most of it the stacks
	// and messages in hand, and with Go's default, collecting it more often cost 7 % of
	// the worker's time.
	heapRoom = 64 << 20

	// Go's default, in percent of the live heap, which holds from 64 MB on; and the most,
	// since a heap of next to nothing says little about the next minute's.
	leastGC, mostGC = 100, 400
)

// heapPercent is the GOGC for a live heap of so many bytes.
func heapPercent(live uint64) int {
	return int(min(max(heapRoom*100/max(live, 1), leastGC), mostGC))
}

// roomForHeap sets it for the heap as it was after the last collection. Where the
// environment says how to collect, that holds; GOMEMLIMIT holds in any case.
func roomForHeap() {
	if _, said := os.LookupEnv("GOGC"); said {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(sample); sample[0].Value.Kind() == metrics.KindUint64 {
		debug.SetGCPercent(heapPercent(sample[0].Value.Uint64()))
	}
}
