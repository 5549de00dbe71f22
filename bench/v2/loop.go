package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamEvent is an event as the stream takes it.
type streamEvent struct {
	EventName  string            `json:"event_name"`
	Identifier string            `json:"identifier"`
	Timestamp  string            `json:"timestamp"`
	Payload    map[string]string `json:"payload"`
}

// storedEvent is an event as producers publish it.
type storedEvent struct {
	EventName  string         `json:"event_name"`
	Identifier string         `json:"identifier"`
	Timestamp  int64          `json:"timestamp"`
	Payload    map[string]any `json:"payload"`
}

// loop is what somebody would write in an afternoon.
type loop struct {
	js     jetstream.JetStream
	stripe string
	token  string
	client http.Client
}

// bareLoop sends what is stored, with a goroutine for each of four pulls.
func bareLoop(ctx context.Context, server, stripe string) error {
	conn, err := nats.Connect("nats://" + server)
	if err != nil {
		return err
	}
	defer conn.Close()
	l := &loop{stripe: stripe, client: http.Client{Timeout: time.Minute}}
	if l.js, err = jetstream.New(conn); err != nil {
		return err
	}
	if err := l.session(ctx); err != nil {
		return err
	}
	consumer, err := l.js.CreateConsumer(ctx, "USAGE", jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 20000})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	failed := make(chan error, 4)
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := l.batch(ctx, consumer); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(<-failed)
}

func (l *loop) batch(ctx context.Context, consumer jetstream.Consumer) error {
	fetched, err := consumer.Fetch(100)
	if err != nil {
		return err
	}
	var body struct {
		Events []streamEvent `json:"events"`
	}
	var messages []jetstream.Msg
	for m := range fetched.Messages() {
		var e storedEvent
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return err
		}
		payload := make(map[string]string, len(e.Payload))
		for key, value := range e.Payload {
			payload[key] = fmt.Sprint(value)
		}
		body.Events = append(body.Events, streamEvent{e.EventName, e.Identifier, time.Unix(e.Timestamp, 0).UTC().Format(time.RFC3339), payload})
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		return nil
	}
	if err := l.post(ctx, "/v2/billing/meter_event_stream", l.token, body, nil); err != nil {
		return err
	}
	for _, m := range messages {
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) session(ctx context.Context) error {
	var reply struct {
		Token string `json:"authentication_token"`
	}
	err := l.post(ctx, "/v2/billing/meter_event_session", "sk_test_bench", struct{}{}, &reply)
	l.token = reply.Token
	return err
}

func (l *loop) post(ctx context.Context, path, bearer string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.stripe+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Stripe-Version", "2024-10-28.acacia")
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}
