package console

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	sampleEvery = 2 * time.Second
	leastPause  = 250 * time.Millisecond // between two samples, whoever asks
	mostSamples = 900                    // half an hour
	// mostWatchers bounds the open event streams.
	mostWatchers = 64
	// interestFor is how long after a page or a call of the API looks go on: the next look
	// has one to compare with.
	interestFor = 10 * time.Second
	// lookTimeout bounds one look; a page is written without it rather than later.
	lookTimeout = 5 * time.Second
)

// hub takes samples, and looks at the fleet while somebody watches: one look for all of
// them, for a look is some sixty calls to the server.
type hub struct {
	operator Operator
	own      ownNumbers
	closed   chan struct{}
	wake     chan struct{} // capacity 1: somebody came, and there is nothing new to show

	mu       sync.Mutex
	looking  time.Time       // until then looks go on without watchers
	look     json.RawMessage // nil: none, or too old
	begun    int             // looks
	finished int             // the number of the last look that is over
	news     chan struct{}   // closed at the next sample or look
	samples  []Sample
	watchers int
}

func newHub(operator Operator, registry prometheus.Gatherer) *hub {
	return &hub{
		operator: operator, own: ownNumbers{registry: registry},
		closed: make(chan struct{}), wake: make(chan struct{}, 1), news: make(chan struct{}),
	}
}

// run samples until ctx ends; then all watchers are let go.
func (h *hub) run(ctx context.Context) {
	defer close(h.closed)
	defer h.operator.Rest()
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		h.observe(ctx)
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
			h.pause(ctx)
		case <-ticker.C:
		}
		ticker.Reset(sampleEvery)
	}
}

// pause keeps people who reload a page from asking the server without end.
func (h *hub) pause(ctx context.Context) {
	timer := time.NewTimer(time.Until(h.own.at.Add(leastPause)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// observe takes one sample, with a look where somebody wants it.
func (h *hub) observe(ctx context.Context) {
	var look json.RawMessage
	number := h.wanted()
	if number > 0 {
		looking, cancel := context.WithTimeout(ctx, lookTimeout)
		look = h.operator.Look(looking)
		cancel()
	} else {
		h.operator.Rest()
	}
	now := time.Now()
	sample := Sample{At: now.UTC().Format(time.RFC3339Nano)}
	h.own.fill(&sample, now)
	sample.fleetNumbers(look)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look = look
	if look != nil {
		h.finished = number
	}
	h.samples = append(h.samples, sample)
	if len(h.samples) > mostSamples {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	close(h.news)
	h.news = make(chan struct{})
}

// wanted is the number of the look that is to begin; 0 where nobody wants one.
func (h *hub) wanted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == 0 && !time.Now().Before(h.looking) {
		return 0
	}
	h.begun++
	return h.begun
}

// soon asks for a look before the next one is due: something was changed.
func (h *hub) soon() {
	h.mu.Lock()
	h.looking = time.Now().Add(interestFor)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default: // asked for already
	}
}

// status is the last look, or the next one where there is none; nil if that does not come.
// A fresh one is begun after the call: it sees what was done before.
func (h *hub) status(ctx context.Context, fresh bool) json.RawMessage {
	h.mu.Lock()
	h.looking = time.Now().Add(interestFor)
	look, after, news := h.look, h.finished, h.news
	if fresh {
		after = h.begun
	}
	h.mu.Unlock()
	if look != nil && !fresh {
		return look
	}
	h.soon()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for {
		select {
		case <-news:
		case <-h.closed:
			return nil
		case <-ctx.Done():
			return look
		}
		h.mu.Lock()
		newer := h.finished > after
		look, news = h.look, h.news
		h.mu.Unlock()
		if newer {
			return look
		}
	}
}

// watch counts a watcher in; ok is false when there are too many.
func (h *hub) watch() (leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers >= mostWatchers {
		return nil, false
	}
	h.watchers++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.watchers--
	}, true
}

// latest is what a watcher is shown now, and what tells that there is more.
func (h *hub) latest() (look json.RawMessage, sample *Sample, news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.samples); n > 0 {
		last := h.samples[n-1]
		sample = &last
	}
	return h.look, sample, h.news
}

func (h *hub) series() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Sample{}, h.samples...)
}
