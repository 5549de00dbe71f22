package simulator

import (
	"fmt"
	"testing"
	"time"
)

func (b *bench) sendKey(key, identifier string, changes ...string) testReply {
	b.t.Helper()
	form := b.form(identifier)
	for i := 0; i < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
	}
	r := b.event(form)
	r.Header.Set("Idempotency-Key", key)
	return b.do(r)
}

func TestFirstAnswerIsReplayed(t *testing.T) {
	const counted, notCounted = 1, 0
	tests := []struct {
		name    string
		prepare func(*bench)
		status  int
		code    string
		counted int64
		again   int // status of the same call with the same key
		replay  bool
	}{
		{"200", func(*bench) {}, 200, "", counted, 200, true},
		{"500", func(b *bench) { b.inject(Fault{Kind: Error500, Times: 1}) }, 500, "", notCounted, 500, true},
		{"500 after counting", func(b *bench) { b.inject(Fault{Kind: Error500, Times: 1, Recorded: true}) }, 500, "", counted, 500, true},
		{"lock_timeout", func(b *bench) { b.inject(Fault{Kind: LockTimeout, Times: 1}) }, 429, "lock_timeout", notCounted, 429, true},
		{"duplicate", func(b *bench) { b.send("id-1") }, 400, "", counted, 400, true},
		{"503 of the edge", func(b *bench) { b.inject(Fault{Kind: Error503, Times: 1}) }, 503, "", notCounted, 200, false},
		{"503 of the edge after counting", func(b *bench) { b.inject(Fault{Kind: Error503, Times: 1, Recorded: true}) }, 503, "", counted, 200, true},
		{"rate limit", func(b *bench) { b.inject(Fault{Kind: RateLimited, Times: 1}) }, 429, "rate_limit", notCounted, 200, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			tt.prepare(b)
			first := b.sendKey("k", "id-1", "timestamp", fmt.Sprint(start.Unix()))
			b.want(first, tt.status, tt.code)
			if got := b.Totals().Counted; got != tt.counted {
				t.Errorf("counted %d, want %d", got, tt.counted)
			}
			b.Advance(time.Hour)
			again := b.sendKey("k", "id-1", "timestamp", fmt.Sprint(start.Unix()))
			if again.status != tt.again {
				t.Errorf("again: %d, want %d", again.status, tt.again)
			}
			if replayed := again.header.Get("Idempotent-Replayed") == "true"; replayed != tt.replay {
				t.Errorf("again: replayed %v, want %v", replayed, tt.replay)
			}
			if tt.replay && first.status == again.status && first.body != again.body {
				t.Errorf("replayed %s, first was %s", again.body, first.body)
			}
		})
	}
}

func TestKeyIsForgottenAtExactly24Hours(t *testing.T) {
	b := newBench(t, Config{})
	stamp := fmt.Sprint(start.Unix())
	b.inject(Fault{Kind: Error500, Times: 1})
	b.want(b.sendKey("k", "id-1", "timestamp", stamp), 500, "")
	b.Advance(24*time.Hour - 1)
	b.want(b.sendKey("k", "id-1", "timestamp", stamp), 500, "")
	b.Advance(1)
	b.want(b.sendKey("k", "id-1", "timestamp", stamp), 200, "")
}

func TestKeyWithOtherParametersIsRefused(t *testing.T) {
	b := newBench(t, Config{})
	b.want(b.sendKey("k", "id-1"), 200, "")
	for _, change := range [][]string{
		{"payload[value]", "2"},
		{"payload[region]", "eu"},
		{"timestamp", fmt.Sprint(start.Unix() - 1)},
		{"event_name", "tokens"},
		{"identifier", "id-2"},
	} {
		got := b.sendKey("k", "id-1", change...)
		if _, kind, _ := got.failure(); got.status != 400 || kind != "idempotency_error" {
			t.Errorf("%v: got %d %s", change, got.status, got.body)
		}
	}
	if got := b.Totals().Counted; got != 1 {
		t.Errorf("counted %d", got)
	}
}

func TestKeyOfARefusedRequestIsFree(t *testing.T) {
	b := newBench(t, Config{})
	b.want(b.sendKey("k", "id-1", "payload[value]", "x"), 400, "meter_event_invalid_value")
	b.want(b.sendKey("k", "id-1"), 200, "")
}

func TestKeyInUse(t *testing.T) {
	b := newBench(t, Config{})
	e, problem := b.resolve(event{
		name: "api_calls", identifier: "id-1", timestamp: start.Unix(),
		payload: map[string]string{"stripe_customer_id": "cus_1", "value": "1"},
	})
	if problem != nil {
		t.Fatal(problem)
	}
	key := hashKey(false, "k")
	b.idem.begin(key, e.fingerprint(), start)
	b.want(b.sendKey("k", "id-1"), 409, "idempotency_key_in_use")
	b.idem.finish(key, rateLimited("global-rate"))
	b.want(b.sendKey("k", "id-1"), 200, "")
}

func TestStoredKeysAreBounded(t *testing.T) {
	i := newIdempotency()
	const more = 1000
	for n := range uint64(maxStoredKeys + more) {
		var key keyHash
		for b := range 8 {
			key[b] = byte(n >> (8 * b))
		}
		i.begin(key, n, start)
		i.finish(key, answer{status: 200, executed: true})
	}
	if len(i.keys) != maxStoredKeys || len(i.order) != maxStoredKeys {
		t.Errorf("%d keys, %d in order, want %d", len(i.keys), len(i.order), maxStoredKeys)
	}
	if got, _ := i.begin(keyHash{}, 0, start); got != turnRun {
		t.Errorf("the oldest key is still known: %d", got)
	}
	if got, _ := i.begin(keyHash{0xff, 0xff, 0x0f}, 0xfffff, start); got != turnReplay {
		t.Errorf("a new key is forgotten: %d", got)
	}
}

func TestForgettingLeavesAKeyTakenAgain(t *testing.T) {
	i := newIdempotency()
	key := keyHash{1}
	i.begin(key, 1, start)
	i.finish(key, answer{status: 400}) // refused: free again
	i.begin(key, 1, start.Add(time.Hour))
	i.finish(key, answer{status: 200, executed: true})
	if got, _ := i.begin(key, 1, start.Add(24*time.Hour)); got != turnReplay {
		t.Errorf("forgotten with the first call's age: %d", got)
	}
	if got, _ := i.begin(key, 1, start.Add(25*time.Hour)); got != turnRun {
		t.Errorf("not forgotten: %d", got)
	}
}
