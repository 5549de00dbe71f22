package sim

import (
	"math/rand/v2"
	"time"
)

// dice draws by name instead of by turn: what one goroutine draws does not depend on
// what another one has drawn before.
type dice uint64

// draw is a source of its own for what the name and the numbers stand for.
func (d dice) draw(name string, numbers ...uint64) *rand.Rand {
	h := uint64(1469598103934665603)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	for _, n := range numbers {
		h = (h ^ n) * 1099511628211
		h ^= h >> 29
	}
	return rand.New(rand.NewPCG(uint64(d), h))
}

// between is a duration from least to most.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

// one draws an element.
func one[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// hashOf names a text by a number, the same in every run.
func hashOf(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}
