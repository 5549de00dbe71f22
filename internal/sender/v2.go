package sender

import (
	"context"
	"errors"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

const (
	// DefaultStreamBase is Stripe's meter event stream.
	DefaultStreamBase = "https://meter-events.stripe.com"

	// The paths of API v2; some documents write that of sessions in the plural.
	sessionPath = "/v2/billing/meter_event_session"
	streamPath  = "/v2/billing/meter_event_stream"

	// MaxBatch is how many events Stripe takes in one request.
	MaxBatch = 100

	// gatherFor is how long an event waits for others to share a request with.
	gatherFor = 20 * time.Millisecond

	// maxRequests bounds the requests that are under way for the line: 10,000 events a
	// second at a latency of 600 ms.
	maxRequests = 64
)

// Permits is the account-wide bucket: one permit an event, and one a session.
type Permits interface {
	// TakeUpTo waits for permits, n at the most.
	TakeUpTo(ctx context.Context, n int) (Permit, error)
}

// Permit is the right to send Count events in one request; see [delivery.Permit].
type Permit interface {
	delivery.Permit

	// Count is for how many events it is good; Spend may leave less of it.
	Count() int
}

// V2Config is what [NewV2] needs. BaseURL of Config is where sessions are opened.
type V2Config struct {
	Config

	StreamURL string  // "" means DefaultStreamBase; see ValidateBase
	Permits   Permits // of the bucket

	// Made is told of each request, those for sessions included; nil tells nobody.
	Made func(class delivery.Class, took time.Duration)
}

// V2 makes attempts through Stripe's meter event stream: attempts that are under way
// beside each other share requests. Its methods may be called concurrently.
type V2 struct {
	api, stream *V1 // connections, and what makes a request
	permits     Permits
	made        func(delivery.Class, time.Duration)
	sessions    *sessions
	line        line
	life        context.Context // of the couriers
	end         context.CancelFunc
}

var _ delivery.Sender = (*V2)(nil)

// NewV2 returns a sender, or an error that names the setting at fault. It opens no
// connection and no session.
func NewV2(cfg V2Config) (*V2, error) {
	if cfg.Permits == nil {
		return nil, errors.New("sender: Permits must be set")
	}
	if cfg.StreamURL == "" {
		cfg.StreamURL = DefaultStreamBase
	}
	if cfg.Made == nil {
		cfg.Made = func(delivery.Class, time.Duration) {}
	}
	api, err := New(cfg.Config)
	if err != nil {
		return nil, err
	}
	stream := cfg.Config
	stream.BaseURL = cfg.StreamURL
	v := &V2{api: api, permits: cfg.Permits, made: cfg.Made}
	if v.stream, err = New(stream); err != nil {
		return nil, err
	}
	v.life, v.end = context.WithCancel(context.Background())
	v.sessions = &sessions{v: v}
	v.line.deliver = v.courier
	return v, nil
}

// Close ends all connections. Attempts still under way end as NotSent or NoAnswer, later
// ones as NotSent.
func (v *V2) Close() {
	v.end()
	v.stream.Close()
	v.api.Close()
	v.line.close()
	v.sessions.opening.Wait()
}

// Send makes the attempt: at most one request that may have been executed, always an
// answer. ctx cuts the request that the event is part of; the attempt's Stop ends no later.
func (v *V2) Send(ctx context.Context, attempt delivery.Attempt) delivery.Answer {
	if attempt.Stop == nil {
		attempt.Stop = ctx
	}
	m := &member{attempt: attempt, cut: ctx, answered: make(chan delivery.Answer, 1)}
	if attempt.Alone {
		v.carry([]*member{m}, nil)
		return m.answer()
	}
	v.line.join(m)
	select {
	case a := <-m.answered:
		return m.result(a)
	case <-attempt.Stop.Done():
	}
	if v.line.leave(m) {
		m.turnAway(ctx)
	}
	return m.answer()
}

// member is an attempt on its way through a request that it shares.
type member struct {
	attempt  delivery.Attempt
	cut      context.Context // as of Send
	answered chan delivery.Answer
	place    place     // in the line; guarded by line.mu
	joined   time.Time // the same
	fragment []byte    // the event as it is sent
	panicked any       // of its Ready
}

// answer waits for the answer.
func (m *member) answer() delivery.Answer { return m.result(<-m.answered) }

// result lets a panic of Ready reach whom it concerns.
func (m *member) result(a delivery.Answer) delivery.Answer {
	if m.panicked != nil {
		panic(m.panicked)
	}
	return a
}

var errPanicked = errors.New("panic while asking whether the event may be sent")

// ready asks whether the event may still be sent. A panic concerns this event only.
func (m *member) ready(ctx context.Context) (err error) {
	if m.attempt.Ready == nil {
		return nil
	}
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			err = errPanicked
		}
	}()
	return m.attempt.Ready(ctx)
}

// turnAway answers a member for which no request was made: it has stopped, or everything
// ends. Ready says so to whoever made the attempt.
func (m *member) turnAway(ctx context.Context) {
	_ = m.ready(ctx) // nothing is sent, whatever it says
	m.answered <- delivery.Answer{Class: delivery.NotSent, Detail: "no longer to be sent"}
}
