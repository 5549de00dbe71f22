package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	// keepAlive is how often a report in hand is kept from others, who would take it after
	// half a minute.
	keepAlive = 10 * time.Second

	// Pauses before a report is taken again: doubling between them.
	leastAgain = 5 * time.Second
	mostAgain  = 10 * time.Minute

	// missingAfter is how often Stripe may not know a report before it is given up: some 40
	// minutes. "Not found" is not final at once.
	missingAfter = 10
)

// Counts are the metrics.
type Counts interface {
	Letter(reason string)            // a letter was stored
	Rejected(code string, n int)     // events that a report says were rejected
	Unnamed(eventName string, n int) // of those, the ones that could not be found
}

// WorkerConfig is what a [Worker] depends on.
type WorkerConfig struct {
	Live  bool
	Epoch string // stamp of the USAGE stream
}

// Parts are what a worker is made of.
type Parts struct {
	Inbox   Inbox
	Stripe  Stripe
	Permits Permits
	Outbox  Outbox
	History History
	Letters Letters
	Counts  Counts
	Log     *zap.Logger
}

// Worker turns reports into dead letters, one report at a time.
//
// What a sample is about is found in two ways. An Idempotency-Key of ours names the message.
// An identifier is looked for among what the journal says was sent around the time of the
// validation: a rejected event was sent, so its intent or its outcome stands there. Only a message
// that was delivered gets a letter. One that is dead has had one. One that is neither is
// being tried still, or again: the report waits for its end.
type Worker struct {
	cfg     WorkerConfig
	inbox   Inbox
	stripe  Stripe
	permits Permits
	outbox  Outbox
	history History
	letters Letters
	counts  Counts
	log     *zap.Logger

	meters map[string]string // event names by id, as learned; a few per account
}

// NewWorker puts a worker together.
func NewWorker(cfg WorkerConfig, p Parts) *Worker {
	return &Worker{
		cfg: cfg, inbox: p.Inbox, stripe: p.Stripe, permits: p.Permits, outbox: p.Outbox,
		history: p.History, letters: p.Letters, counts: p.Counts, log: p.Log, meters: map[string]string{},
	}
}

// Run takes reports until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	for ctx.Err() == nil {
		item, err := w.inbox.Next()
		switch {
		case err != nil && ctx.Err() == nil:
			w.log.Warn("reports of rejected usage cannot be taken", zap.Error(err))
			pause(ctx, leastAgain)
		case item != nil:
			w.handle(ctx, item)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// handle takes one report through, or hands it back.
func (w *Worker) handle(ctx context.Context, item Item) {
	alive, end := context.WithCancel(ctx)
	defer end()
	go keep(alive, item)
	n, what, err := parseNotification(item.Body(), w.cfg.Live)
	if err != nil || what != report {
		w.log.Error("a stored report cannot be read; it stays in the stream", zap.Error(err))
		_ = item.Ack() // an ack that gets lost costs another look
		return
	}
	log := w.log.With(zap.String("event", n.ID), zap.String("type", n.Type))
	again, err := w.process(ctx, item, n, log)
	if err == nil {
		_ = item.Ack() // the result is stored: another look finds it
		return
	}
	again = max(again, backoff(item.Tries()))
	if ctx.Err() != nil {
		again = leastAgain // another worker may take it at once
	} else {
		log.Warn("a report of rejected usage has to wait", zap.Error(err), zap.Int("tries", item.Tries()), zap.Duration("again_in", again))
	}
	_ = item.Again(again) // lost, it comes again after half a minute
}

func keep(ctx context.Context, item Item) {
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = item.Alive() // lost, another worker may do the same in parallel, which changes nothing
		}
	}
}

func backoff(tries int) time.Duration {
	return min(leastAgain<<min(max(tries-1, 0), 10), mostAgain)
}

var errOpen = errors.New("usage that it names is still being delivered")

// process reads the report, settles what it names and stores what came of it.
func (w *Worker) process(ctx context.Context, item Item, n notification, log *zap.Logger) (again time.Duration, err error) {
	if finished, err := w.inbox.Finished(ctx, n.ID); finished || err != nil {
		return 0, err
	}
	answer, err := w.ask(ctx, "/v2/core/events/"+n.ID)
	switch {
	case err != nil:
		return answer.RetryAfter, err
	case answer.Status == http.StatusNotFound && item.Tries() < missingAfter:
		return 0, errors.New("Stripe does not know it yet")
	case answer.Status != http.StatusOK:
		log.Error("Stripe does not give a report of rejected usage; what to do is in docs/webhooks.md", zap.Int("status", answer.Status))
		return 0, w.finish(ctx, result{ID: n.ID, Type: n.Type, State: "not_found"})
	}
	r, n, err := parseReport(answer.Body, n)
	if err != nil {
		if item.Tries() < missingAfter {
			return 0, err
		}
		log.Error("a report of rejected usage cannot be read; it stays in the stream")
		return 0, w.finish(ctx, result{ID: n.ID, Type: n.Type, State: "unreadable"})
	}
	name, err := w.eventName(ctx, n.meter())
	if err != nil {
		return 0, err
	}
	return 0, w.join(ctx, n, r, name, log)
}

// ask puts one question to Stripe, under a permit. The error of a status that may change
// by itself says which.
func (w *Worker) ask(ctx context.Context, path string) (Answer, error) {
	permit, err := w.permits.Take(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer permit.Done()
	if err := permit.Spend(ctx); err != nil {
		return Answer{}, err
	}
	answer, err := w.stripe.Read(ctx, path)
	if err != nil {
		return Answer{}, err
	}
	if answer.Throttled {
		w.permits.Throttled(answer.RetryAfter)
	}
	switch answer.Status {
	case http.StatusOK, http.StatusNotFound:
		return answer, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return answer, fmt.Errorf("Stripe answers %d: the key may not read events; give it read permission for them", answer.Status)
	default:
		return answer, fmt.Errorf("Stripe answers %d", answer.Status)
	}
}

// eventName is that of the meter, "" where Stripe does not tell. It saves from taking usage
// of another meter for what a report is about.
func (w *Worker) eventName(ctx context.Context, meter string) (string, error) {
	if meter == "" {
		return "", nil
	}
	if name, known := w.meters[meter]; known {
		return name, nil
	}
	answer, err := w.ask(ctx, "/v1/billing/meters/"+meter)
	if answer.Status == http.StatusForbidden || answer.Status == http.StatusNotFound {
		w.log.Warn("the meter of a report cannot be read: its usage is found by identifier alone; give the key read permission for billing meters", zap.String("meter", meter))
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var object struct {
		Name string `json:"event_name"`
	}
	if err := json.Unmarshal(answer.Body, &object); err != nil || object.Name == "" {
		return "", fmt.Errorf("meter %s: Stripe's answer is no meter", meter)
	}
	w.meters[meter] = object.Name
	return object.Name, nil
}

// join makes the letters, and the result once nothing is open any more.
func (w *Worker) join(ctx context.Context, n notification, r Report, name string, log *zap.Logger) error {
	s, err := w.search(ctx, r, name)
	if err != nil {
		return err
	}
	named, open := map[string]map[uint64]bool{}, 0
	for _, m := range s.found {
		waits, err := w.settle(ctx, n.ID, r, m)
		if err != nil {
			return err
		}
		if waits {
			open++
		}
		if named[m.rejection.Code] == nil {
			named[m.rejection.Code] = map[uint64]bool{}
		}
		named[m.rejection.Code][m.message.Sequence] = true
	}
	if open > 0 {
		return fmt.Errorf("%w: %d", errOpen, open)
	}
	out := tally(r, named)
	out.ID, out.Type, out.Meter, out.EventName, out.Cut = n.ID, n.Type, n.meter(), name, s.cut
	if err := w.finish(ctx, out); err != nil {
		return err
	}
	w.tell(out, log)
	return nil
}
