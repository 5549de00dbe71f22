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

	// streamRoom is the same for API v2, whose events come ten times as fast: some 30,000
	// of them between two collections, which saves a fifth of the worker's time (bench/v2).
	streamRoom = 192 << 20

	// Go's default, in percent of the live heap, which holds from the room on; and the most,
	// since a heap of next to nothing says little about the next minute's.
	leastGC, mostGC = 100, 400
)

// heapPercent is the GOGC for a live heap of so many bytes.
func heapPercent(live, room uint64) int {
	return int(min(max(room*100/max(live, 1), leastGC), mostGC))
}

// roomForHeap sets it for the heap as it was after the last collection. Where the
// environment says how to collect, that holds; GOMEMLIMIT holds in any case.
func roomForHeap(room uint64) {
	if _, said := os.LookupEnv("GOGC"); said {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(sample); sample[0].Value.Kind() == metrics.KindUint64 {
		debug.SetGCPercent(heapPercent(sample[0].Value.Uint64(), room))
	}
}

// heapRoom is how much is allocated between two collections while the heap is small.
func (d *daemon) heapRoom() uint64 {
	if d.cfg.API == apiV2 {
		return streamRoom
	}
	return heapRoom
}
