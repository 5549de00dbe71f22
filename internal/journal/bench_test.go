package journal

import (
	"runtime"
	"testing"
	"time"
)

// million is a ledger of a million deliveries over 36 days, as it is read at a claim.
func million() *Ledger {
	const n = 1_000_000
	l := newLedger()
	for i := range uint64(n) {
		at := noon.Add(-36 * 24 * time.Hour * time.Duration(n-i) / n)
		l.apply(Entry{Sequence: i, Key: spread(i), Fingerprint: content, State: Delivered}, at)
	}
	l.settle(claimedAt(noon, 0))
	return l
}

// spread makes a key of a number, as hashes are: all over the range.
func spread(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 }

func benchmarkLookup(b *testing.B, from uint64, want Verdict) {
	b.Helper()
	l, now := million(), time.Now()
	b.ReportAllocs()
	b.ResetTimer()
	for i := uint64(0); b.Loop(); i++ {
		q := Question{Sequence: 1 << 40, Key: spread(from + i*7919%1_000_000), Fingerprint: content, EventTime: noon}
		if got := l.Lookup(q, now).Verdict; got != want {
			b.Fatal(got)
		}
	}
}

func BenchmarkLookupFresh(b *testing.B) { benchmarkLookup(b, 1<<50, Fresh) }
func BenchmarkLookupKnown(b *testing.B) { benchmarkLookup(b, 0, DeliveredBefore) }

// The estimate that the memory cap rests on, against what the process takes.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := million()
		runtime.GC()
		runtime.ReadMemStats(&after)
		estimate, n := l.Size()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/identifier")
		b.ReportMetric(float64(estimate)/float64(n), "B/identifier-estimated")
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
