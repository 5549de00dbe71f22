package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// InForce is what the shared bucket says, for whoever only looks.
type InForce struct {
	Configured float64   // requests a second, of the replica that leased last
	Rate       float64   // as of the last lease: without demand it stays where it was
	Paused     time.Time // no permits before: a Retry-After
}

// LookAt reads the shared bucket and changes nothing. Known is false where no replica has
// used it yet.
func LookAt(ctx context.Context, kv jetstream.KeyValue) (now InForce, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entry, err := kv.Get(ctx, bucketKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return InForce{}, false, nil
	}
	if err != nil {
		return InForce{}, false, fmt.Errorf("read the shared bucket: %w", err)
	}
	var r record
	if json.Unmarshal(entry.Value(), &r) != nil || r.Configured <= 0 {
		return InForce{}, false, nil // the next lease begins it anew
	}
	return InForce{Configured: r.Configured, Rate: r.Rate, Paused: r.Paused}, true, nil
}
