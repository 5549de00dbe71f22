package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/usage"
)

const (
	demoProducers = 32 // publishing at once

	// demoStartWithin bounds the time in which the workers must have shared the
	// partitions; three need two beats, some five seconds.
	demoStartWithin = 60 * time.Second

	// demoStalled is how long nothing may be settled before the books are closed
	// as they are: longer than AckWait (30 s), after which JetStream would deliver
	// what a worker has dropped.
	demoStalled = 40 * time.Second

	// demoReportsWithin bounds the wait for what Stripe rejects later: a window of its
	// reports, and the worker's way through one.
	demoReportsWithin = 20 * time.Second

	demoLook = 50 * time.Millisecond // between two looks at what is waited for
)

var errInterrupted = errors.New("interrupted before the books could be closed; nothing was left behind")

// demo is one run.
type demo struct {
	command *DemoCmd
	traffic *demoTraffic
	screen  *demoScreen
	log     *zap.Logger
	stage   *demoStage

	published atomic.Int64
	took      time.Duration
}

// play runs everything from the first start to the last stop and returns what
// was found.
func (d *demo) play(ctx context.Context) (evidence demoEvidence, err error) {
	defer runtime.GOMAXPROCS(roomToSync())
	d.stage, err = openStage(ctx, d.log)
	if err != nil {
		return evidence, interrupted(ctx, err)
	}
	defer func() { err = interrupted(ctx, errors.Join(err, d.stage.close())) }()
	if err := d.stage.stripe.Inject(d.traffic.faults...); err != nil {
		return evidence, err
	}
	working, err := d.stage.start(ctx, d.command.Replicas, d.log)
	if err != nil {
		return evidence, err
	}
	if err := d.deliver(working); err != nil {
		return evidence, err
	}
	if err := d.stage.stop(); err != nil { // a settlement that is under way ends before the books are read
		return evidence, err
	}
	return d.collect(ctx)
}

// interrupted makes one message of all that follows from Ctrl-C.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// deliver publishes the traffic and waits until it is settled.
func (d *demo) deliver(working context.Context) error {
	var watching sync.WaitGroup
	watch, end := context.WithCancel(working)
	defer watching.Wait()
	defer end()
	d.screen.show(d.line())
	watching.Go(func() { d.watch(watch) })
	if !await(working, demoStartWithin, d.stage.shared) {
		return cause(working, "the workers did not share the partitions in time")
	}
	if !await(working, demoStartWithin, func() bool { return d.stage.daemons[0].receives() != "" }) {
		return cause(working, "the webhook endpoint did not open in time")
	}
	d.stage.notify(working)
	began := time.Now()
	defer func() { d.took = time.Since(began) }()
	if err := d.publish(working, d.traffic.first); err != nil {
		return err
	}
	if err := d.publish(working, d.traffic.again); err != nil {
		return err
	}
	if err := d.settle(working); err != nil {
		return err
	}
	// What does not come of a report the books will name as missing.
	await(working, demoReportsWithin, func() bool { return d.rejectedLater(working) == demoLaterSize })
	d.screen.end(d.line())
	return nil
}

// rejectedLater is how many dead letters have come of Stripe's reports.
func (d *demo) rejectedLater(ctx context.Context) int {
	counts, err := d.stage.daemons[0].letters.Counts(ctx)
	if err != nil {
		return 0 // the next look may succeed
	}
	return counts[deadletter.RejectedLater]
}

// await looks until the condition holds; false: not in time, or ctx has ended.
func await(ctx context.Context, within time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(demoLook)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// cause is why the workers have ended, or else the text.
func cause(working context.Context, otherwise string) error {
	if err := context.Cause(working); err != nil {
		return err
	}
	return errors.New(otherwise)
}

// publish stores the messages, many at once, and returns when each is confirmed.
func (d *demo) publish(ctx context.Context, messages []*demoMessage) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	next := make(chan *demoMessage)
	var producers sync.WaitGroup
	for range demoProducers {
		producers.Go(func() {
			for m := range next {
				if err := d.store(ctx, m); err != nil {
					fail(fmt.Errorf("publish %s: %w", m.label, err))
				}
			}
		})
	}
	for _, m := range messages {
		select {
		case next <- m:
		case <-ctx.Done():
		}
	}
	close(next)
	producers.Wait()
	return context.Cause(ctx)
}

// store publishes one message: events as a Go service would, and the others as
// a producer that knows nothing but NATS.
func (d *demo) store(ctx context.Context, m *demoMessage) error {
	if m.messageID == "" {
		receipt, err := usage.NewPublisher(d.stage.js).Publish(ctx, m.event)
		m.sequence = receipt.Sequence
		return d.stored(err)
	}
	ack, err := d.stage.js.PublishMsg(ctx, &nats.Msg{Subject: m.subject, Data: m.body, Header: nats.Header{}}, jetstream.WithMsgID(m.messageID))
	if err == nil {
		m.sequence = ack.Sequence
	}
	return d.stored(err)
}

func (d *demo) stored(err error) error {
	if err == nil {
		d.published.Add(1)
	}
	return err
}

// settle waits until every message is settled. When nothing happens any more it
// returns too: the books will name what is missing.
func (d *demo) settle(working context.Context) error {
	last, since := -1, time.Now()
	stalled := false
	done := await(working, time.Hour*24, func() bool {
		if settled := d.counts().settled(); settled != last {
			last, since = settled, time.Now()
		}
		stalled = time.Since(since) > demoStalled
		return stalled || last >= len(d.traffic.all()) && d.open(working) == 0
	})
	if stalled {
		d.log.Warn("nothing is settled any more; the books are closed as they are", zap.Duration("for", demoStalled))
	}
	if !done {
		return cause(working, "the traffic was not settled in time")
	}
	return nil
}

// open is the number of messages that are not acked, -1 if it cannot be known.
func (d *demo) open(ctx context.Context) int {
	stream, err := d.stage.js.Stream(ctx, outbox.UsageStream)
	if err != nil {
		return -1
	}
	open := 0
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		open += int(info.NumPending) + info.NumAckPending
	}
	if consumers.Err() != nil {
		return -1
	}
	return open
}

// collect reads the evidence once the workers have stopped.
func (d *demo) collect(ctx context.Context) (e demoEvidence, err error) {
	stream, err := d.stage.js.Stream(ctx, outbox.UsageStream)
	if err != nil {
		return e, fmt.Errorf("read stream %s: %w", outbox.UsageStream, err)
	}
	e.stored = int(stream.CachedInfo().State.Msgs)
	e.unsettled = d.open(ctx)
	e.duplicates = d.counts().duplicates
	e.letters, err = d.letters(ctx)
	e.stripe = d.stage.stripe.Books()
	return e, err
}

// letters reads the whole dead-letter stream.
func (d *demo) letters(ctx context.Context) ([]demoLetter, error) {
	stream, err := d.stage.js.Stream(ctx, outbox.DLQStream)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", outbox.DLQStream, err)
	}
	state := stream.CachedInfo().State
	var letters []demoLetter
	for sequence := state.FirstSeq; sequence <= state.LastSeq; sequence++ {
		m, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			return nil, fmt.Errorf("read dead letter %d: %w", sequence, err)
		}
		letter, err := deadletter.Read(m.Header.Get)
		if err != nil {
			return nil, fmt.Errorf("read dead letter %d: %w", sequence, err)
		}
		letters = append(letters, demoLetter{letter, m.Data})
	}
	return letters, nil
}
