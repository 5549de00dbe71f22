package outbox

import (
	"strings"
	"sync"
	"testing"
)

func TestOrders(t *testing.T) {
	kv, err := newWorld(t).open(t, usual).Durable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadOrders(t.Context(), kv); err != nil || got != (Orders{}) {
		t.Fatalf("orders of a new fleet: %+v, %v", got, err)
	}
	if _, err := Order(t.Context(), kv, func(o *Orders) { o.Paused, o.By = true, "alice" }); err != nil {
		t.Fatal(err)
	}
	var together sync.WaitGroup
	for range 8 {
		together.Go(func() {
			if _, err := Order(t.Context(), kv, func(o *Orders) { o.Resumed++ }); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	got, err := ReadOrders(t.Context(), kv)
	if err != nil || !got.Paused || got.By != "alice" || got.Resumed != 8 {
		t.Errorf("orders %+v, %v: want all nine changes", got, err)
	}
}

// TestUnreadableOrders: what somebody else wrote there is named, and written over by the
// next order.
func TestUnreadableOrders(t *testing.T) {
	kv, err := newWorld(t).open(t, usual).Durable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"garbage", `{"paused":"yes"}`, `[]`} {
		if _, err := kv.PutString(t.Context(), ordersKey, text); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadOrders(t.Context(), kv); err == nil || !strings.Contains(err.Error(), "meterworker resume") && !strings.Contains(err.Error(), "`resume`") {
			t.Errorf("%s: %v, want an error with its remedy", text, err)
		}
		if got, err := Order(t.Context(), kv, func(o *Orders) { o.Paused = true }); err != nil || !got.Paused {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestLookAtMembers(t *testing.T) {
	w := newWorld(t)
	if look, err := LookAtMembers(t.Context(), w.js); err != nil || len(look) != 0 {
		t.Errorf("before any worker: %v, %v", look, err)
	}
	streams := w.open(t, usual)
	a, b := join(t, streams, "a"), join(t, streams, "b")
	a.Shows(Showing{State: "open"})
	a.Owns(3, true)
	b.Shows(Showing{State: "closed"})
	beat(t, a, b, a, b)
	look, err := LookAtMembers(t.Context(), w.js)
	if err != nil || len(look) != 2 || look["a"].State != "open" || look["a"].Beat != 2 || len(look["a"].Owns) != 1 || look["b"].State != "closed" {
		t.Errorf("look %+v, %v", look, err)
	}
	if others := b.Others(); len(others) != 1 || others["a"] != "open" {
		t.Errorf("b sees %v", others)
	}
}
