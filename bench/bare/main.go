// Command bare is the loop that one would write in an afternoon, well tuned: it pulls
// usage events from JetStream, sends each with stripe-go and acks it, and promises
// nothing. No event is deduplicated, retried, recorded or kept from being billed twice;
// it is what the worker's price is measured against.
//
// It is paced by one goroutine, in order, right before the send, and its transport is
// tuned like the worker's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	stripe "github.com/stripe/stripe-go/v81"
	"github.com/stripe/stripe-go/v81/billing/meterevent"
	"golang.org/x/time/rate"
)

func main() {
	var l loop
	flag.StringVar(&l.nats, "nats", "", "URL of the NATS server")
	flag.StringVar(&l.base, "stripe", "", "URL of Stripe")
	flag.StringVar(&l.stream, "stream", "", "stream to drain")
	flag.Float64Var(&l.rate, "rate", 0, "requests a second; 0 is no limit")
	flag.IntVar(&l.inFlight, "in-flight", 256, "requests beside each other")
	flag.Parse()
	stop, end := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer end()
	if err := l.run(stop); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

type loop struct {
	nats, base, stream string
	rate               float64
	inFlight           int

	client meterevent.Client
	sends  sync.WaitGroup
	places chan struct{}
}

// burst is what the dispatcher may catch up with after a late wake-up, as the worker's.
const burst = 10

func (l *loop) run(stop context.Context) error {
	conn, err := nats.Connect(l.nats)
	if err != nil {
		return err
	}
	defer conn.Close()
	messages, err := l.open(stop, conn)
	if err != nil {
		return err
	}
	defer context.AfterFunc(stop, messages.Stop)()
	l.client = l.stripe()
	l.places = make(chan struct{}, l.inFlight)
	limiter := rate.NewLimiter(rate.Inf, burst)
	if l.rate > 0 {
		limiter.SetLimit(rate.Limit(l.rate))
	}
	for {
		message, err := messages.Next()
		if stop.Err() != nil {
			break
		}
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue // the library pulls again
		}
		if err != nil {
			return err
		}
		l.places <- struct{}{}
		if limiter.Wait(stop) != nil {
			break
		}
		l.sends.Go(func() { l.send(message) })
	}
	l.sends.Wait()
	return conn.Flush()
}

func (l *loop) open(ctx context.Context, conn *nats.Conn) (jetstream.MessagesContext, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, l.stream, jetstream.ConsumerConfig{
		Durable: "bare", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2 * l.inFlight,
	})
	if err != nil {
		return nil, err
	}
	// The heartbeat bounds a race of the library that leaves no pull outstanding.
	return consumer.Messages(jetstream.PullMaxMessages(l.inFlight), jetstream.PullHeartbeat(500*time.Millisecond))
}

func (l *loop) stripe() meterevent.Client {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		panic("http.DefaultTransport was replaced")
	}
	transport := standard.Clone()
	transport.DisableCompression = true
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = 1024, 1024, 1024
	transport.IdleConnTimeout = 30 * time.Second
	return meterevent.Client{Key: "sk_test_bench", B: stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: new(l.base), EnableTelemetry: new(false), MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		HTTPClient:    &http.Client{Transport: transport, Timeout: 10 * time.Second},
	})}
}

// event is the body of a message.
type event struct {
	EventName  string `json:"event_name"`
	Identifier string `json:"identifier"`
	Timestamp  int64  `json:"timestamp"`
	Payload    struct {
		Customer string      `json:"stripe_customer_id"`
		Value    json.Number `json:"value"`
	} `json:"payload"`
}

func (l *loop) send(m jetstream.Msg) {
	defer func() { <-l.places }()
	var e event
	err := json.Unmarshal(m.Data(), &e)
	if err == nil {
		_, err = l.client.New(&stripe.BillingMeterEventParams{
			Params:    stripe.Params{IdempotencyKey: new("bare-" + e.Identifier)},
			EventName: &e.EventName, Identifier: &e.Identifier, Timestamp: &e.Timestamp,
			Payload: map[string]string{"stripe_customer_id": e.Payload.Customer, "value": e.Payload.Value.String()},
		})
	}
	if err == nil {
		err = m.Ack()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
	}
}
