package outbox

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestDurableBucket: on file, without an end, and with the stamp of the other streams.
func TestDurableBucket(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	kv, err := s.Durable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	cfg := w.info(t, "KV_usage_control_durable").Config
	if cfg.Storage != jetstream.FileStorage || cfg.MaxAge != 0 || cfg.Discard != jetstream.DiscardNew || cfg.MaxMsgsPerSubject != 1 {
		t.Errorf("storage %v, age limit %v, discard %v, history %d", cfg.Storage, cfg.MaxAge, cfg.Discard, cfg.MaxMsgsPerSubject)
	}
	if cfg.Metadata[metaEpoch] != s.Epoch() || cfg.Metadata[metaMode] != "test" {
		t.Errorf("metadata %v", cfg.Metadata)
	}
	w.open(t, usual) // again: the same bucket
	if entry, err := kv.Get(t.Context(), "k"); err != nil || string(entry.Value()) != "v" {
		t.Errorf("after opening again: %v, %v", entry, err)
	}
}

// TestDurableBucketGone: an installation of before gets one; where it was and is not,
// a pause or a declaration was forgotten, and a person must know.
func TestDurableBucketGone(t *testing.T) {
	w := newWorld(t)
	w.open(t, usual)
	w.dropDurable(t)
	unmanaged := usual
	unmanaged.Manage = false
	for _, settings := range []Settings{usual, unmanaged} {
		_, err := Open(t.Context(), w.js, settings)
		refusal(t, err, "key-value bucket usage_control_durable does not exist although it did", "accept-restored --stream usage_control_durable")
	}
	w.update(t, UsageStream, func(c *jetstream.StreamConfig) { delete(c.Metadata, metaDurable) }) // never had one
	_, err := Open(t.Context(), w.js, unmanaged)
	refusal(t, err, "key-value bucket usage_control_durable does not exist; create it", "METERWORKER_MANAGE_STREAMS=true")
	w.open(t, usual)
	w.info(t, durableStream)
}

func (w *world) dropDurable(t *testing.T) {
	t.Helper()
	if err := w.js.DeleteKeyValue(t.Context(), DurableBucket); err != nil {
		t.Fatal(err)
	}
}

func TestDurableDangers(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*jetstream.KeyValueConfig)
		want   string
	}{
		"memory": {func(c *jetstream.KeyValueConfig) { c.Storage = jetstream.MemoryStorage }, "storage is Memory"},
		"ttl":    {func(c *jetstream.KeyValueConfig) { c.TTL = time.Hour }, "ttl is 1h0m0s"},
		"mode":   {func(c *jetstream.KeyValueConfig) { c.Metadata = map[string]string{"mode": "live"} }, "metadata mode is live"},
		"epoch":  {func(c *jetstream.KeyValueConfig) { c.Metadata = map[string]string{"epoch": "other"} }, "metadata epoch is other"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.open(t, usual)
			w.dropDurable(t)
			cfg := jetstream.KeyValueConfig{Bucket: DurableBucket, Storage: jetstream.FileStorage}
			row.change(&cfg)
			if _, err := w.js.CreateKeyValue(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), w.js, usual)
			refusal(t, err, "key-value bucket usage_control_durable", row.want)
		})
	}
}
