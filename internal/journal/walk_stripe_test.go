package journal_test

import (
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// stripe is the other side: what it counted, and when it last did.
type stripe struct {
	counted map[uint64]int
	at      map[uint64]time.Time
	content map[uint64]uint32
}

type answer int

const (
	accepted answer = iota
	duplicate
	refused
	throttled
	silence // it may have counted
)

// post is one request; a lost one is counted or not, and not answered.
func (s *stripe) post(w *walk, e journal.Entry) answer {
	mishap := 0
	if !w.calm {
		mishap = w.rng.IntN(12)
	}
	switch mishap {
	case 1:
		return throttled
	case 2:
		return refused
	case 3:
		return silence
	}
	known := time.Since(s.at[e.Key]) < stripeMemory && s.counted[e.Key] > 0
	if !known {
		s.counted[e.Key]++
		s.at[e.Key], s.content[e.Key] = time.Now(), e.Fingerprint
	}
	if s.counted[e.Key] > 1 {
		w.t.Errorf("seed %d: identifier %d is counted %d times", w.seed, e.Key, s.counted[e.Key])
	}
	switch {
	case mishap >= 4 && mishap <= 6:
		w.note("counted, answer lost")
		return silence
	case known:
		return duplicate
	default:
		return accepted
	}
}
