package usage_test

import (
	"testing"

	"github.com/meterworker/meterworker/usage"
)

const ordinary = `{"event_name":"api_calls","identifier":"req-7f3a90c2","timestamp":1795348000,"payload":{"stripe_customer_id":"cus_123","value":1024,"region":"eu"}}`

func BenchmarkParse(b *testing.B) {
	m := message("usage.events.api_calls.cus_123", ordinary)
	b.ReportAllocs()
	b.SetBytes(int64(len(ordinary)))
	for b.Loop() {
		if _, err := usage.Parse(m, noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyAndFingerprint(b *testing.B) {
	e, err := usage.Parse(message("usage.events.api_calls.cus_123", ordinary), noon)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if e.Key() == 0 && e.Fingerprint() == 0 {
			b.Fatal("both are 0")
		}
		_ = e.Fingerprint()
	}
}

// An event costs the worker one copy of the body and one slice, however fast the
// machine.
func TestParseAllocations(t *testing.T) {
	m := message("usage.events.api_calls.cus_123", ordinary)
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := usage.Parse(m, noon); err != nil {
			t.Error(err)
		}
	})
	if allocations > 2 {
		t.Errorf("Parse allocates %v times, want 2", allocations)
	}
}

// What the ledger knows an event by costs no allocation.
func TestKeyAndFingerprintDoNotAllocate(t *testing.T) {
	e, err := usage.Parse(message("usage.events.api_calls.cus_123", ordinary), noon)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = e.Key(), e.Fingerprint() }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
