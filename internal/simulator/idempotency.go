package simulator

import (
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxIdempotencyKey = 255     // characters
	maxStoredKeys     = 1 << 20 // beyond it the oldest are forgotten early
)

// turn is what an Idempotency-Key allows a request to do.
type turn uint8

const (
	turnRun      turn = iota + 1 // first of its key: execute
	turnReplay                   // executed before: the stored answer
	turnMismatch                 // the key belongs to other parameters
	turnInUse                    // the first is still running
)

type keyHash [16]byte // of mode and key: 128 bits of SHA-256

// storedKey is one key's state. Of a success only its time is kept: the answer
// follows from the parameters, which are the same.
type storedKey struct {
	params  uint64
	at      int64 // Unix nanoseconds of the first call
	answer  *answer
	running bool
}

// idempotency is Stripe's memory of Idempotency-Keys: 24 h, at most
// maxStoredKeys. A key whose call was refused before execution is free again.
type idempotency struct {
	mu    sync.Mutex
	keys  map[keyHash]storedKey
	order []keyAge // oldest first
}

type keyAge struct {
	key keyHash
	at  int64
}

func newIdempotency() *idempotency {
	return &idempotency{keys: make(map[keyHash]storedKey)}
}

func hashKey(live bool, key string) keyHash {
	mode := "test:"
	if live {
		mode = "live:"
	}
	sum := sha256.Sum256([]byte(mode + key))
	return keyHash(sum[:len(keyHash{})])
}

func (i *idempotency) begin(key keyHash, params uint64, now time.Time) (turn, storedKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forget(now.UnixNano())
	stored, known := i.keys[key]
	switch {
	case !known:
		i.keys[key] = storedKey{params: params, at: now.UnixNano(), running: true}
		i.order = append(i.order, keyAge{key, now.UnixNano()})
		return turnRun, storedKey{}
	case stored.params != params:
		return turnMismatch, stored
	case stored.running:
		return turnInUse, stored
	}
	return turnReplay, stored
}

// finish stores what the first call came to.
func (i *idempotency) finish(key keyHash, a answer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	stored, known := i.keys[key]
	switch {
	case !known: // forgotten while it ran
	case !a.executed:
		delete(i.keys, key)
	default:
		stored.running = false
		if a.status != http.StatusOK {
			stored.answer = &a
		}
		i.keys[key] = stored
	}
}

func (i *idempotency) forget(now int64) {
	gone := 0
	for _, age := range i.order {
		if now-age.at < int64(keyMemory) && len(i.order)-gone < maxStoredKeys {
			break
		}
		// The key may have been freed and taken again since.
		if i.keys[age.key].at == age.at {
			delete(i.keys, age.key)
		}
		gone++
	}
	i.order = i.order[gone:]
}

func checkIdempotencyKey(r *http.Request) (string, *answer) {
	key := r.Header.Get("Idempotency-Key")
	switch {
	case key == "":
		return "", invalid("", "idempotency_key_missing", "Idempotency-Key is required.")
	case utf8.RuneCountInString(key) > maxIdempotencyKey:
		return "", invalid("", "idempotency_key_too_long", "Idempotency-Key must be at most %d characters.", maxIdempotencyKey)
	}
	return key, nil
}

func keyMismatch() answer {
	return refuse(http.StatusBadRequest, apiError{
		Type:    "idempotency_error",
		Message: "Keys for idempotent requests can only be used with the same parameters they were first used with.",
	})
}

func keyInUse() answer {
	return refuse(http.StatusConflict, apiError{
		Code: "idempotency_key_in_use", Type: "idempotency_error",
		Message: "There is currently another in-progress request using this Idempotency-Key.",
	})
}
