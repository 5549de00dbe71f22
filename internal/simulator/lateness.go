package simulator

import (
	"slices"
	"sync"
	"time"
)

// lateness holds back from the summaries what was counted a short while ago: at Stripe they lag
// behind. It keeps an event only for as long as it is late.
type lateness struct {
	delay time.Duration

	mu   sync.Mutex
	late []lateEvent // in order of counting
}

type lateEvent struct {
	pair   pairKey
	minute int64 // of its timestamp, Unix minutes
	units  int64
	until  time.Time
}

func (l *lateness) note(pair pairKey, e event, now time.Time) {
	if l.delay <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = append(l.late, lateEvent{pair, floorDiv(e.timestamp, 60), e.value, now.Add(l.delay)})
}

// without takes the late events of a pair out of its minutes; a minute that is left without events
// is not there yet. What a minute had last stays as it is.
func (l *lateness) without(pair pairKey, minutes []minute, now time.Time) []minute {
	if l.delay <= 0 {
		return minutes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = slices.DeleteFunc(l.late, func(e lateEvent) bool { return !now.Before(e.until) })
	for _, e := range l.late {
		i := slices.IndexFunc(minutes, func(m minute) bool { return m.start == e.minute })
		if e.pair == pair && i >= 0 {
			minutes[i].units -= e.units
			minutes[i].events--
		}
	}
	return slices.DeleteFunc(minutes, func(m minute) bool { return m.events == 0 })
}
