package ratelimit

import (
	"sync"
	"time"
)

const (
	// LaneDepth is how much work waits in a lane besides the one that runs: enough
	// to keep the lane busy until handed-back messages return, and twice what returns
	// in one clump.
	LaneDepth = 8

	minHandBack = 50 * time.Millisecond

	// nearHandBack is how far ahead turns are spread over the lane's own pace. Turns
	// after that are closer together, so that a pace that has changed meanwhile, or a
	// lane that has moved to another worker, costs little time: a message that comes too
	// early is handed back again.
	nearHandBack = 30 * time.Second

	// Bounds of the distance of turns that are farther ahead. At 5 ms a backlog of
	// 300,000 comes again after 25 minutes, 200 messages a second.
	leastFar = time.Millisecond
	mostFar  = 5 * time.Millisecond

	// longestClump bounds the time for which messages come again together. Each instant
	// at which a message is due has the server look through all that are delayed: 200 a
	// second out of 50,000 cost it a quarter of a core one by one, and a tenth of that in
	// clumps of half a second.
	longestClump = 500 * time.Millisecond

	// firstGuess is a lane's time for one piece of work before it has done any.
	firstGuess = 100 * time.Millisecond
)

// Lanes runs work one at a time for each key, and different keys beside each
// other. An idle lane costs nothing.
type Lanes struct {
	mu      sync.Mutex
	lanes   map[string]*lane
	running sync.WaitGroup
	busy    func(lanes int)
}

type lane struct {
	queue []func()
	pace  time.Duration // moving average of the time one piece of work takes
	turn  time.Time     // when the last one that was handed back may come again
}

// NewLanes returns lanes; busy is called with the number of busy ones whenever it
// changes.
func NewLanes(busy func(lanes int)) *Lanes {
	return &Lanes{lanes: map[string]*lane{}, busy: busy}
}

// Offer runs work in the lane of key, after what waits there. When the lane is
// full it does not take the work and returns after how long to offer it again,
// so that what is handed back returns spread out over the lane's own pace.
func (l *Lanes) Offer(key string, work func()) (again time.Duration, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	current, ok := l.lanes[key]
	if !ok {
		current = &lane{queue: []func(){work}, pace: firstGuess}
		l.lanes[key] = current
		l.busy(len(l.lanes))
		l.running.Add(1)
		go l.run(key, current)
		return 0, true
	}
	if len(current.queue) <= LaneDepth {
		current.queue = append(current.queue, work)
		return 0, true
	}
	return current.handBack(time.Now()), false
}

// handBack is the delay until half of the queue is done, and one turn more for each
// that was handed back before; in clumps of half a queue.
func (c *lane) handBack(now time.Time) time.Duration {
	earliest := now.Add(min(time.Duration(len(c.queue)/2)*c.pace, nearHandBack/2))
	if c.turn.Before(earliest) {
		c.turn = earliest
	}
	apart := min(c.pace, nearHandBack/20)
	if c.turn.Sub(now) >= nearHandBack {
		apart = min(max(c.pace/8, leastFar), mostFar)
	}
	c.turn = c.turn.Add(apart)
	clump := min(max(LaneDepth/2*c.pace, time.Millisecond), longestClump)
	return max(c.turn.Truncate(clump).Add(clump).Sub(now), minHandBack)
}

// Crowded reports whether work waits in the lane behind that which runs.
func (l *Lanes) Crowded(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	current, busy := l.lanes[key]
	return busy && len(current.queue) > 1
}

// Wait returns when no lane is busy. Nothing may be offered meanwhile.
func (l *Lanes) Wait() { l.running.Wait() }

func (l *Lanes) run(key string, current *lane) {
	defer l.running.Done()
	for {
		work := l.next(key, current)
		if work == nil {
			return
		}
		began := time.Now()
		work()
		l.done(current, time.Since(began))
	}
}

// next returns the work at the head, which stays there while it runs; nil closes
// the lane.
func (l *Lanes) next(key string, current *lane) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(current.queue) == 0 {
		delete(l.lanes, key)
		l.busy(len(l.lanes))
		return nil
	}
	return current.queue[0]
}

func (l *Lanes) done(current *lane, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	current.queue[0] = nil // let go of what it holds
	current.queue = current.queue[1:]
	current.pace = (7*current.pace + took) / 8
}
