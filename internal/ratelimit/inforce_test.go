package ratelimit

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/natstest"
)

// Whoever only looks sees what is in force, and changes nothing.
func TestLookAt(t *testing.T) {
	js := natstest.Start(t).Connect()
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	if now, known, err := LookAt(t.Context(), kv); known || err != nil {
		t.Errorf("before any lease: %+v, %v", now, err)
	}
	shared := NewShared(SharedConfig{Rate: 50, Trouble: func(error) {}, Open: func(context.Context) (jetstream.KeyValue, error) { return kv, nil }})
	lease, err := shared.Lease(t.Context(), 1)
	if err != nil || lease.Permits != 1 {
		t.Fatalf("lease %+v, %v", lease, err)
	}
	before, err := kv.Get(t.Context(), bucketKey)
	if err != nil {
		t.Fatal(err)
	}
	if now, known, err := LookAt(t.Context(), kv); !known || err != nil || now.Configured != 50 || now.Rate != 50 || !now.Paused.IsZero() {
		t.Errorf("after a lease: %+v, %v, %v", now, known, err)
	}
	if after, err := kv.Get(t.Context(), bucketKey); err != nil || after.Revision() != before.Revision() {
		t.Errorf("revision %d, it was %d: %v", after.Revision(), before.Revision(), err)
	}
	for _, text := range []string{"", "{", `{"rate":5}`, `{"configured":-1,"rate":5}`} {
		if _, err := kv.PutString(t.Context(), bucketKey, text); err != nil {
			t.Fatal(err)
		}
		if now, known, err := LookAt(t.Context(), kv); known || err != nil {
			t.Errorf("%q: %+v, %v", text, now, err)
		}
	}
	if err := js.DeleteKeyValue(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, known, err := LookAt(t.Context(), kv); known || err == nil {
		t.Errorf("without a bucket: %v, %v", known, err)
	}
}
