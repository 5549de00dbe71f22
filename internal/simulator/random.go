package simulator

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// newID is unique within the simulator and the same in every run of a seed.
func (s *Simulator) newID(prefix string) string {
	return fmt.Sprintf("%s%016x", prefix, mix(s.cfg.Seed^mix(s.serial.Add(1))))
}

type jitter struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (j *jitter) draw(width time.Duration) time.Duration {
	if width <= 0 {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Duration(j.random.Int64N(2*int64(width)+1)) - width
}

func newRandom(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, mix(stream+1)))
}

// mix is a bijection of 64 bits (the finaliser of splitmix64): different serials
// never give one id.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
