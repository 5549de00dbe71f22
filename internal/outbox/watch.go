package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Look is what an outsider sees of the workers: one look at the members document.
type Look map[string]Seen

// Seen is one worker in a look.
type Seen struct {
	Beat uint64 // grows every BeatEvery while the worker lives
	Owns []int
	Showing
}

// LookAtMembers reads the members document; empty where no worker ever was.
func LookAtMembers(ctx context.Context, js jetstream.JetStream) (Look, error) {
	look, _, err := lookAtMembers(ctx, js)
	return look, err
}

// lookAtMembers also returns when one of them wrote last, by the server's clock.
func lookAtMembers(ctx context.Context, js jetstream.JetStream) (Look, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := js.KeyValue(ctx, ControlBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return Look{}, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("key-value bucket %s: %w", ControlBucket, err)
	}
	entry, err := kv.Get(ctx, membersKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Look{}, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("members document: %w", err)
	}
	var all map[string]member
	if err := json.Unmarshal(entry.Value(), &all); err != nil {
		return nil, time.Time{}, fmt.Errorf("members document: %w", err)
	}
	look := Look{}
	for id, m := range all {
		look[id] = Seen{Beat: m.Beat, Owns: m.Owns, Showing: m.Showing}
	}
	return look, entry.Created(), nil
}
