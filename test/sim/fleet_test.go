package sim

import (
	"context"
	"slices"
	"time"
)

// fleet says which life serves which partition, as the members' agreement would.
type fleet struct {
	w       *world
	upset   chan struct{} // capacity 1: somebody has lost a partition, or an action was planned
	serving []*serving    // guarded by w.mu
	free    map[int]time.Time
	closed  bool // between two times of the fleet: nobody serves
}

// serving is one life's hold on a partition, from the claim on.
type serving struct {
	l         *life
	partition int
	stop      context.CancelFunc
	done      chan struct{}
	over      bool
}

func newFleet(w *world) *fleet {
	return &fleet{w: w, upset: make(chan struct{}, 1), free: map[int]time.Time{}}
}

func (f *fleet) signal() {
	select {
	case f.upset <- struct{}{}:
	default:
	}
}

// claim has the life take the partition.
func (f *fleet) claim(l *life, partition int) {
	ctx, cancel := context.WithCancel(l.stop)
	s := &serving{l: l, partition: partition, stop: cancel, done: make(chan struct{})}
	f.w.lock(func() { f.serving = append(f.serving, s) })
	go func() {
		defer close(s.done)
		defer cancel()
		err := l.serve(ctx, partition)
		f.w.lock(func() {
			f.w.note(l.number, "serves no longer", 0, text(err))
			s.over = true
			r := f.w.dice.draw("claims again", uint64(partition), uint64(len(f.serving)))
			f.free[partition] = time.Now().Add(between(r, time.Second, 12*time.Second))
			f.signal()
		})
	}()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ends are the ends of all that the life serves.
func (f *fleet) ends(l *life) []chan struct{} {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	var ends []chan struct{}
	for _, s := range f.serving {
		if s.l == l {
			ends = append(ends, s.done)
		}
	}
	return ends
}

// holder is the latest life that serves the partition and has not ended. w.mu is held.
func (f *fleet) holder(partition int) *life {
	for _, s := range slices.Backward(f.serving) {
		if s.partition == partition && !s.over && !s.l.dead && !s.l.ending {
			return s.l
		}
	}
	return nil
}

// holds reports whether the life serves the partition, or is about to. w.mu is held.
func (f *fleet) holds(l *life, partition int) bool {
	return slices.ContainsFunc(f.serving, func(s *serving) bool { return s.l == l && s.partition == partition && !s.over })
}

// live are the processes that are there, frozen ones included. w.mu is held.
func (f *fleet) live() []*life {
	return slices.DeleteFunc(slices.Clone(f.w.lives), func(l *life) bool { return l.dead || l.ending })
}

// another is a life that does not hold the partition, a new one where there is room; nil:
// nobody is free.
func (f *fleet) another(partition int) *life {
	var free []*life
	var room bool
	f.w.lock(func() {
		live := f.live()
		room = len(live) < mostLives
		for _, l := range live {
			if !f.holds(l, partition) && !l.thawsAt.After(time.Now()) {
				free = append(free, l)
			}
		}
	})
	switch {
	case len(free) > 0:
		return free[f.w.dice.draw("another", uint64(partition), uint64(len(f.serving))).IntN(len(free))]
	case room:
		return f.w.newLife()
	}
	return nil
}

// keep has every partition served; it returns when to look again.
func (f *fleet) keep() time.Duration {
	next := time.Hour
	for p := range partitions {
		var wait time.Duration
		served := true
		f.w.lock(func() { wait, served = time.Until(f.free[p]), f.holder(p) != nil || f.closed })
		switch {
		case served:
		case wait > 0:
			next = min(next, wait)
		default:
			if l := f.another(p); l != nil {
				f.claim(l, p)
			} else {
				next = min(next, time.Second)
			}
		}
	}
	return next
}

// takeOver gives the partition to another life while the holder still serves it.
func (f *fleet) takeOver(partition int) {
	var held, closed bool
	f.w.lock(func() { held, closed = f.holder(partition) != nil, f.closed })
	if !held || closed {
		return
	}
	if l := f.another(partition); l != nil {
		f.w.lock(func() { f.w.seen.note(string(takenOver)) })
		f.claim(l, partition)
	}
}

// frozen plans what the others do about a process that stopped. w.mu is held.
func (f *fleet) frozen(l *life, d time.Duration) {
	r := f.w.dice.draw("missed", uint64(l.number), uint64(l.points))
	for _, s := range f.serving {
		if s.l == l && !s.over && d > 20*time.Second && r.IntN(4) > 0 {
			at := time.Since(f.w.began) + between(r, 12*time.Second, time.Minute)
			f.w.plan(at, "takes over", func() { f.takeOver(s.partition) })
		}
	}
}
