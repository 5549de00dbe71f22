package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const ordersKey = "orders"

// Orders are what people have told the whole fleet. They are on file: a paused fleet stays
// paused through any restart.
type Orders struct {
	Paused  bool      `json:"paused"`
	Resumed int       `json:"resumed"` // how often it was told to resume: each one ends a halt
	By      string    `json:"by"`      // who gave the last order
	Why     string    `json:"why,omitempty"`
	At      time.Time `json:"at"`
}

// ReadOrders returns the orders in force, the zero value where none was ever given.
func ReadOrders(ctx context.Context, kv jetstream.KeyValue) (Orders, error) {
	orders, _, err := readOrders(ctx, kv)
	return orders, err
}

func readOrders(ctx context.Context, kv jetstream.KeyValue) (Orders, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entry, err := kv.Get(ctx, ordersKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Orders{}, 0, nil
	}
	if err != nil {
		return Orders{}, 0, fmt.Errorf("read the orders: %w", err)
	}
	var orders Orders
	if err := json.Unmarshal(entry.Value(), &orders); err != nil {
		return Orders{}, 0, fmt.Errorf("key %s of bucket %s is not what meterworker writes (%w); run `meterworker pause` or `resume` to write it again", ordersKey, DurableBucket, err)
	}
	return orders, entry.Revision(), nil
}

// Order changes the orders. Of several who do it at once each one's change is kept.
func Order(ctx context.Context, kv jetstream.KeyValue, change func(*Orders)) (Orders, error) {
	for {
		orders, revision, err := readOrders(ctx, kv)
		if unreadable(err) {
			revision, err = lastRevision(ctx, kv)
		}
		if err != nil {
			return Orders{}, err
		}
		change(&orders)
		if err = writeOrders(ctx, kv, orders, revision); err == nil {
			return orders, nil
		}
		if !conflict(err) {
			return Orders{}, fmt.Errorf("store the order: %w", err)
		}
	}
}

func unreadable(err error) bool {
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &wrongType)
}

func lastRevision(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
	entry, err := kv.Get(ctx, ordersKey)
	if err != nil {
		return 0, fmt.Errorf("read the orders: %w", err)
	}
	return entry.Revision(), nil
}

func writeOrders(ctx context.Context, kv jetstream.KeyValue, orders Orders, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	data, err := json.Marshal(orders)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = kv.Create(ctx, ordersKey, data)
	} else {
		_, err = kv.Update(ctx, ordersKey, data, revision)
	}
	return err // says itself what it is
}
