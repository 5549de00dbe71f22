package tracing

import (
	"context"
	"errors"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// queueSize bounds the spans that wait for the collector: about 4 MB, and 2 s of
	// three spans an event at 350 traced events a second.
	queueSize = 2048

	batchSize  = 512
	batchAfter = 2 * time.Second // that a span waits for others at most

	// exportTries bounds the requests for one batch; the pauses between them leave a
	// collector time to restart.
	exportTries = 3
	exportPause = 2 * time.Second
)

// queue is between the deliveries and the collector. It implements
// [sdktrace.SpanProcessor]: OpenTelemetry's own does not tell what it drops.
type queue struct {
	exporter sdktrace.SpanExporter
	dropped  func(spans int)
	trouble  func(error)

	spans chan sdktrace.ReadOnlySpan
	drain chan struct{} // closed: nothing more is waited for
	done  chan struct{} // closed: everything was exported, or dropped

	life   context.Context // of the requests
	cut    context.CancelFunc
	failed bool // the last batch was
}

func newQueue(exporter sdktrace.SpanExporter, dropped func(int), trouble func(error)) *queue {
	q := &queue{
		exporter: exporter, dropped: dropped, trouble: trouble,
		spans: make(chan sdktrace.ReadOnlySpan, queueSize), drain: make(chan struct{}), done: make(chan struct{}),
	}
	q.life, q.cut = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements [sdktrace.SpanProcessor].
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor]. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped(1)
	}
}

// ForceFlush implements [sdktrace.SpanProcessor]: what waits goes out within
// [batchAfter] by itself.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdktrace.SpanProcessor]: it exports what waits until ctx ends, and
// drops the rest. It is called once.
func (q *queue) Shutdown(ctx context.Context) error {
	close(q.drain)
	defer context.AfterFunc(ctx, q.cut)()
	<-q.done
	q.cut()
	return q.exporter.Shutdown(ctx)
}

func (q *queue) run() {
	defer close(q.done)
	for {
		batch := q.gather()
		if len(batch) == 0 {
			return
		}
		q.deliver(batch)
	}
}

// gather waits for a batch. It is empty only at the end.
func (q *queue) gather() []sdktrace.ReadOnlySpan {
	var batch []sdktrace.ReadOnlySpan
	select {
	case s := <-q.spans:
		batch = append(batch, s)
	case <-q.drain:
		return q.rest(batch)
	}
	due := time.NewTimer(batchAfter)
	defer due.Stop()
	for len(batch) < batchSize {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-due.C:
			return batch
		case <-q.drain:
			return q.rest(batch)
		}
	}
	return batch
}

// rest fills the batch with what waits already.
func (q *queue) rest(batch []sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	for len(batch) < batchSize {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		default:
			return batch
		}
	}
	return batch
}

// deliver exports the batch, or drops it.
func (q *queue) deliver(batch []sdktrace.ReadOnlySpan) {
	var err error
	for try := 1; try <= exportTries; try++ {
		err = q.exporter.ExportSpans(q.life, batch)
		if refused := (*refusedError)(nil); err == nil || errors.As(err, &refused) && !refused.again() {
			break
		}
		if try == exportTries || !q.pause() {
			break
		}
	}
	if err != nil {
		q.dropped(len(batch))
	}
	if failed := err != nil; failed != q.failed {
		q.failed = failed
		q.trouble(err)
	}
}

// pause reports false when the end has come: then there is no time for another try.
func (q *queue) pause() bool {
	timer := time.NewTimer(exportPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.drain:
		return false
	}
}
