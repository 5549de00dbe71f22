package usage_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meterworker/meterworker/usage"
)

func ExampleNew() {
	event, err := usage.New(usage.Params{
		EventName:  "api_calls",
		Identifier: "req-7f3a", // of the request that is billed: the same in every retry
		Customer:   "cus_123",
		Value:      1024,
		Dimensions: map[string]string{"region": "eu"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(event.Subject())
	fmt.Println(event.Payload())

	_, err = usage.New(usage.Params{EventName: "api_calls", Value: 1})
	if refusal, ok := errors.AsType[*usage.Refusal](err); ok {
		fmt.Println(refusal.Reason)
	}
	// Output:
	// usage.events.api_calls.cus_123
	// [{region eu} {stripe_customer_id cus_123} {value 1024}]
	// meter_event_no_customer_defined
}

func ExamplePublisher() {
	address, stop := exampleServer()
	defer stop()

	connection, err := nats.Connect(address, nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Print(err) })) // what the server says beside its answers
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		log.Fatal(err)
	}
	publisher := usage.NewPublisher(js)

	event, err := usage.New(usage.Params{EventName: "api_calls", Identifier: "req-7f3a", Customer: "cus_123", Value: 1024})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 2 {
		receipt, err := publisher.Publish(ctx, event)
		if err != nil {
			log.Fatal(err) // ErrRefused: not stored; ErrUnconfirmed: publish the same event again
		}
		fmt.Println(receipt.Sequence, receipt.Duplicate)
	}
	// Output:
	// 1 false
	// 1 true
}

// A service that uses OpenTelemetry has its usage show in its own traces.
func ExamplePublisher_traceparent() {
	address, stop := exampleServer()
	defer stop()
	connection, err := nats.Connect(address)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		log.Fatal(err)
	}
	publisher := usage.NewPublisher(js)
	publisher.Traceparent = func(ctx context.Context) string {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		return carrier.Get("traceparent")
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{ // of the request that is served
		TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 1}, TraceFlags: trace.FlagsSampled,
	}))
	event, err := usage.New(usage.Params{EventName: "api_calls", Identifier: "req-7f3a", Customer: "cus_123", Value: 1024})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := publisher.Publish(ctx, event)
	if err != nil {
		log.Fatal(err)
	}
	stored, err := js.Stream(ctx, "USAGE")
	if err != nil {
		log.Fatal(err)
	}
	message, err := stored.GetMsg(ctx, receipt.Sequence)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Header["traceparent"])
	// Output:
	// [00-00000000000000000000000000000001-0000000000000001-01]
}

// exampleServer stands for the NATS server and the stream that the worker keeps.
func exampleServer() (address string, stop func()) {
	folder, err := os.MkdirTemp("", "usage-example")
	if err != nil {
		log.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: folder, NoSigs: true, NoLog: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		log.Fatal("the server does not answer")
	}
	connection, err := nats.Connect(s.ClientURL())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		log.Fatal(err)
	}
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "USAGE", Subjects: []string{"usage.events.*.*"}})
	if err != nil {
		log.Fatal(err)
	}
	return s.ClientURL(), func() {
		stopServer(s)
		_ = os.RemoveAll(folder) // in the system's folder for such things
	}
}
