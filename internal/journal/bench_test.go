package journal

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// million is what the benchmarks count in.
const million = 1_000_000

// filled is a ledger of n deliveries over the days up to noon, as it is read at a claim.
func filled(n uint64, days int) *Ledger {
	l := newLedger()
	for i := range n {
		at := noon.Add(-time.Duration(days-1) * dayLength / time.Duration(n) * time.Duration(n-i))
		l.apply(Entry{Sequence: i, Key: spread(i), Fingerprint: content, State: Delivered}, at)
	}
	l.settle(claimedAt(noon, 0))
	return l
}

// spread makes a key of a number, as hashes are: all over the range.
func spread(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 }

// What is asked for lies anywhere, so nearly every look-up waits for memory, as it does in
// a worker.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []uint64{million, 10 * million} {
		for _, days := range []int{1, 36} {
			l := filled(n, days)
			b.Run(fmt.Sprintf("%d/%ddays/known", n, days), func(b *testing.B) { lookUp(b, l, n, 0, DeliveredBefore) })
			b.Run(fmt.Sprintf("%d/%ddays/fresh", n, days), func(b *testing.B) { lookUp(b, l, n, 1<<50, Fresh) })
		}
	}
}

func lookUp(b *testing.B, l *Ledger, n, from uint64, want Verdict) {
	b.Helper()
	b.ReportAllocs()
	now := time.Now()
	for i := uint64(0); b.Loop(); i++ {
		q := Question{Sequence: 1 << 40, Key: spread(from + i*7919%n), Fingerprint: content, EventTime: noon}
		if got := l.Lookup(q, now).Verdict; got != want {
			b.Fatal(got)
		}
	}
}

// What a look-up is to be held against: one reading of memory, anywhere in as many bytes as
// 10 million identifiers take, each after the one before.
func BenchmarkReadingMemory(b *testing.B) {
	memory := make([]uint64, 30*million)
	for i := range memory {
		memory[i] = uint64(i)
	}
	at := uint64(1)
	for b.Loop() {
		at = spread(at) ^ memory[(at>>20)%uint64(len(memory))]
	}
}

func BenchmarkApply(b *testing.B) {
	l := filled(million, 36)
	b.ReportAllocs()
	for i := uint64(million); b.Loop(); i++ {
		l.apply(Entry{Sequence: i, Key: spread(i), Fingerprint: content, State: Delivered}, noon)
	}
}

// How long a look-up may have to wait, once a day.
func BenchmarkDropDay(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		l := filled(million, 36)
		b.StartTimer()
		l.Expire(noon, 34*dayLength)
	}
}

// What the ledger says it takes, against what the process takes, garbage aside, and the
// most it ever said while it grew.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []uint64{10_000, 100_000, million, 3 * million, 10 * million} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				l := filled(n, 36)
				runtime.GC()
				runtime.ReadMemStats(&after)
				said, kept := l.Size()
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(kept), "B/identifier")
				b.ReportMetric(float64(said)/float64(kept), "B/identifier-said")
			}
		})
	}
}

// A look-up allocates nothing, whatever it finds.
func TestLookupDoesNotAllocate(t *testing.T) {
	l := ledgerOf(
		delivered(4, content), unknown(5, foreign, time.Hour), dead(6, body), announced(7, body),
		record{Entry{Sequence: 8, Key: 88, Fingerprint: content, State: Unknown, T0: noon}, 0},
		record{Entry{Sequence: 9, Key: 88, Fingerprint: foreign, State: Unknown, T0: noon}, 0},
	)
	now := time.Now()
	for name, q := range map[string]Question{
		"fresh":     {Sequence: 1, Key: 1, EventTime: noon},
		"delivered": {Sequence: 1, Key: key, Fingerprint: content, EventTime: noon},
		"dead":      {Sequence: 6, Body: body},
		"dying":     {Sequence: 7, Body: body},
		"unknown":   {Sequence: 8, Key: 88, Fingerprint: content, EventTime: noon, Forgive: noon},
	} {
		if n := testing.AllocsPerRun(100, func() { _ = l.Lookup(q, now) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
