package console

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

const (
	mostRuns   = 20  // that are remembered
	mostSteps  = 100 // of a run that its page shows; the audit trail has all
	mostSingle = 8   // letters that are dealt with one by one, at once
	// awaitOne is how long a person waits for one letter before the page of the run shows
	// how far it is.
	awaitOne = 5 * time.Second
)

var (
	errDraining = errors.New("the worker is starting or stopping, so nothing can be changed here now; try again, or use another worker's console")
	errBusy     = errors.New("another run is under way; wait for its end, or stop it")
)

// The states of a run.
const (
	stateRunning   = "running"
	stateFollowing = "done, waiting for deliveries" // all is done; what became of it is looked for
	stateDone      = "done"
	stateStopped   = "stopped"
	stateFailed    = "failed"
)

// run is one deed and what came of it.
type run struct {
	id   string
	deed Deed
	stop context.CancelFunc

	mu       sync.Mutex
	state    string
	selected int
	done     int
	counts   map[string]int
	steps    []Step
	cut      bool // there were more steps
	problem  string
	began    time.Time
	acted    chan struct{} // closed when nothing more is changed
}

func (r *run) bulk() bool { return len(r.deed.IDs) == 0 }

// report takes a step into the books.
func (r *run) report(s Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Selected > 0 {
		r.selected = s.Selected
	}
	if s.Acted && r.state == stateRunning {
		r.state = stateFollowing
		close(r.acted)
	}
	if s.ID == 0 {
		return
	}
	if !s.FollowUp {
		r.done++
	}
	r.counts[s.Outcome]++
	r.keep(s)
}

// keep remembers a step. Of many letters it is those that need a person.
func (r *run) keep(s Step) {
	for i := range r.steps {
		if r.steps[i].ID == s.ID {
			r.steps[i] = s
			return
		}
	}
	fine := s.Outcome == "replayed" || s.Outcome == "discarded" || s.Outcome == "delivered" || s.Outcome == "waiting"
	switch {
	case r.bulk() && fine:
	case len(r.steps) == mostSteps:
		r.cut = true
	default:
		r.steps = append(r.steps, s)
	}
}

// end closes the books.
func (r *run) end(err error, stopped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case stopped && (r.state == stateRunning || r.state == stateFollowing):
		if r.state == stateRunning {
			close(r.acted)
		}
		r.state = stateStopped
	case err != nil:
		if r.state == stateRunning {
			close(r.acted)
		}
		r.state = stateFailed
	default:
		if r.state == stateRunning {
			close(r.acted)
		}
		r.state = stateDone
	}
	if err != nil && !stopped {
		r.problem = err.Error()
	}
}

func (r *run) unfinished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state == stateRunning || r.state == stateFollowing
}

// await returns when nothing more is changed, or after a while.
func (r *run) await(ctx context.Context) {
	timer := time.NewTimer(awaitOne)
	defer timer.Stop()
	select {
	case <-r.acted:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// runs are the last deeds. They go on when the page is closed, and stop after the letter in
// hand when the worker stops.
type runs struct {
	operator Operator
	work     sync.WaitGroup

	mu   sync.Mutex
	life context.Context // nil before the worker is ready to; over when it stops
	all  []*run          // the oldest first
}

func newRuns(operator Operator) *runs { return &runs{operator: operator} }

func (rs *runs) open(life context.Context) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.life = life
}

// wait returns when every run has stopped; none begins any more, since life is over.
func (rs *runs) wait() {
	rs.mu.Lock()   // whoever began one has counted it by now
	rs.mu.Unlock() //nolint:staticcheck // SA2001: the empty section is the barrier
	rs.work.Wait()
}

// begin starts a deed in the background: one of many letters at a time, for two would read
// and publish the same ones.
func (rs *runs) begin(d Deed) (*run, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.life == nil || rs.life.Err() != nil {
		return nil, errDraining
	}
	r := &run{id: rand.Text()[:12], deed: d, state: stateRunning, counts: map[string]int{}, began: time.Now(), acted: make(chan struct{})}
	if rs.busy(r) {
		return nil, errBusy
	}
	ctx, cancel := context.WithCancel(rs.life)
	r.stop = cancel
	rs.all = append(rs.all, r)
	rs.forget()
	rs.work.Go(func() {
		defer cancel()
		err := rs.operator.Do(ctx, d, r.report)
		r.end(err, ctx.Err() != nil)
	})
	return r, nil
}

func (rs *runs) busy(r *run) bool {
	same := 0
	for _, other := range rs.all {
		select {
		case <-other.acted:
		default:
			if other.bulk() == r.bulk() {
				same++
			}
		}
	}
	return r.bulk() && same > 0 || same >= mostSingle
}

// forget lets the oldest runs go that have ended.
func (rs *runs) forget() {
	for i := 0; i < len(rs.all) && len(rs.all) > mostRuns; {
		if rs.all[i].unfinished() {
			i++
			continue
		}
		rs.all = append(rs.all[:i], rs.all[i+1:]...)
	}
}

func (rs *runs) find(id string) *run {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.all {
		if r.id == id {
			return r
		}
	}
	return nil
}
