package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/usage"
)

// Config is what deliveries depend on.
type Config struct {
	SafeWindow    time.Duration // an unknown attempt older than it is never repeated
	AcceptForeign bool          // take "duplicate" for delivered even without an attempt of ours
	Epoch         string        // stamp of the USAGE stream
	Ahead         int           // intents that may wait for a permit
	Random        func() float64

	// Shared: events share requests, and the sender counts and times those itself.
	Shared bool
}

// Worker delivers the messages of the partitions that it is given.
type Worker struct {
	cfg     Config
	sender  Sender
	permits Permits
	letters DeadLetters
	lanes   Lanes
	crowd   Crowd // nil: every lane is taken for crowded
	gate    *Gate
	skew    *Skew
	tracer  Tracer
	metrics *metrics.Set
	log     *zap.Logger
	ahead   chan struct{}
	inWork  inWork

	warned atomic.Int64  // Unix seconds of the last warning about a long identifier
	hands  atomic.Uint64 // messages that were accepted; tells apart the times that one was
}

// Parts are what a worker is made of.
type Parts struct {
	Sender      Sender
	Permits     Permits
	DeadLetters DeadLetters
	Lanes       Lanes
	Gate        *Gate
	Skew        *Skew  // nil: none is looked for
	Tracer      Tracer // nil: no traces
	Metrics     *metrics.Set
	Log         *zap.Logger
}

// NewWorker puts a worker together.
func NewWorker(cfg Config, p Parts) *Worker {
	if p.Skew == nil {
		p.Skew = &Skew{}
	}
	if p.Tracer == nil {
		p.Tracer = noTracer{}
	}
	crowd, _ := p.Lanes.(Crowd)
	return &Worker{
		crowd: crowd, cfg: cfg, sender: p.Sender, permits: p.Permits, letters: p.DeadLetters, lanes: p.Lanes,
		gate: p.Gate, skew: p.Skew, tracer: p.Tracer, metrics: p.Metrics, log: p.Log, ahead: make(chan struct{}, max(1, cfg.Ahead)),
		inWork: inWork{keys: map[uint64]struct{}{}},
	}
}

// preferredIdentifier is the longest identifier, in characters, that Stripe's current
// specification allows; 255 have been accepted.
const preferredIdentifier = 100

// warnLong says, once a minute at most, that identifiers are longer than Stripe
// promises to take.
func (w *Worker) warnLong(e usage.Event, now time.Time) {
	length := utf8.RuneCountInString(e.Identifier())
	last := w.warned.Load()
	if length <= preferredIdentifier || now.Unix()-last < 60 || !w.warned.CompareAndSwap(last, now.Unix()) {
		return
	}
	w.log.Warn("an identifier has more than 100 characters: it is sent, but Stripe may come to refuse it; shorten it in the producer",
		zap.String("event_name", e.EventName()), zap.Int("characters", length))
}

// Partition is one owned partition to be served.
type Partition struct {
	Number  int
	Outbox  Outbox
	Journal Journal
	Places  func() int // how many of its messages may be in hand
}

// Serve pulls the partition and delivers its messages until stop ends or the
// partition is lost; then it hands back what waits and returns when nothing is
// in hand any more. cut ends requests that are under way.
func (w *Worker) Serve(stop, cut context.Context, p Partition) {
	stop, cancel := context.WithCancel(stop)
	defer cancel()
	go func() {
		select {
		case <-p.Journal.Lost():
			cancel()
		case <-stop.Done():
		}
	}()
	s := &serving{Worker: w, Partition: p, places: newPlaces(func() int { return w.gate.Places(p.Places()) })}
	defer s.inHand.Wait()
	for w.gate.Wait(stop) == nil {
		s.pull(stop, cut)
	}
}

// serving is one call of Serve.
type serving struct {
	*Worker
	Partition

	places *places
	inHand sync.WaitGroup
	faults int // pulls in a row that failed
}

// pull makes one fetch of as many messages as there are free places.
func (s *serving) pull(stop, cut context.Context) {
	episode, end := s.gate.During(stop)
	free, err := s.places.free(episode)
	if err != nil {
		end()
		return
	}
	// Every message of this pull works under the episode; the last one ends it.
	var members sync.WaitGroup
	err = s.Outbox.Fetch(min(free, 500), func(m Message) {
		s.metrics.Received.Inc()
		members.Add(1)
		s.accept(episode, cut, m, members.Done)
	})
	go func() {
		members.Wait()
		end()
	}()
	s.rest(stop, err)
}

// rest pauses after a failed pull, longer each time.
func (s *serving) rest(stop context.Context, err error) {
	if err == nil {
		s.faults = 0
		return
	}
	s.faults++
	if s.faults == 1 || s.faults%20 == 0 {
		s.log.Warn("cannot pull", zap.Int("partition", s.Number), zap.Error(err))
	}
	idle(stop, min(100*time.Millisecond<<min(s.faults, 5), 2*time.Second))
}

// accept puts the message into its lane, or hands it back when the lane is full.
func (s *serving) accept(stop, cut context.Context, m Message, done func()) {
	d := &delivery{w: s.Worker, journal: s.Journal, places: s.places, message: m, trace: s.tracer.Receive(m, s.Number), hand: s.hands.Add(1)}
	s.places.take()
	s.inHand.Add(1)
	leave := func() {
		s.places.give()
		s.inHand.Done()
		done()
	}
	lane := laneOf(m.Subject())
	if faultpoint.Seeded(faultpoint.LanesIgnored) {
		lane = fmt.Sprint(lane, m.Sequence())
	}
	after, taken := s.lanes.Offer(lane, func() {
		defer leave()
		d.contained(stop, cut)
	})
	if !taken {
		defer leave()
		d.release(after)
	}
}

// laneOf is the message's event name and customer, still encoded, so it is the
// same for an event and its replay.
func laneOf(subject string) string {
	_, rest, two := strings.Cut(subject, ".")
	_, lane, three := strings.Cut(rest, ".")
	switch {
	case three:
		return lane
	case two:
		return rest
	default:
		return subject
	}
}

// contained runs the delivery; a panic buries the message, and if even that
// fails, hands it back.
func (d *delivery) contained(stop, cut context.Context) {
	defer d.endWork()
	defer func() {
		if cause := recover(); cause != nil {
			d.panicked(stop, cause)
		}
	}()
	if stop.Err() != nil {
		d.release(time.Second)
		return
	}
	d.run(stop, cut)
}

func (d *delivery) panicked(stop context.Context, cause any) {
	log := d.w.log.With(zap.Uint64("sequence", d.message.Sequence()))
	defer func() {
		if second := recover(); second != nil {
			log.Error("panic while burying a message; it will be delivered again", zap.String("panic", describe(second)))
			if !d.left {
				d.drop(errPanic)
			}
		}
	}()
	log.Error("panic", zap.String("panic", describe(cause)), zap.Bool("settled", d.left), zap.ByteString("stack", debug.Stack()))
	if d.left {
		return
	}
	if end := d.recorded(stop); end != nil { // the panic came after the record
		end()
		return
	}
	d.toBury(stop, deadletter.Panic, "panic: "+describe(cause))()
}

var errPanic = errors.New("panic")

// describe is the text of a panic. A value that is not one may hold anything, so
// only its type is told.
func describe(cause any) string {
	switch cause := cause.(type) {
	case error:
		return cause.Error()
	case string:
		return cause
	default:
		return fmt.Sprintf("%T", cause)
	}
}
