package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// Nothing that the dead letter carries beside our own headers is copied: a
// roll-up header, for one, would purge the outbox.
func TestReplayIsExactlyTheOriginal(t *testing.T) {
	b := newBench(t)
	l := letter(deadletter.ServerError)
	l.Subject, l.Replays = "usage.replay.api=2Ecalls.cus=20_1", 2
	l.Outcome, l.Detail, l.Episode = deadletter.Unknown, "secret detail", "3"
	odd := "\x00{\"a\": \xff} \n"
	id := b.bury(l, odd, [2]string{"X-Smuggled", "1"}, [2]string{"Traceparent", "00-1"},
		[2]string{"Meterworker-Accept-Double-Billing", "true"}, [2]string{"Meterworker-Replay-Of", "9"},
		[2]string{"Nats-Smuggled", "all"}, [2]string{"Nats-Expected-Stream", outbox.DLQStream})
	got := b.replay(id, Permission{})
	if got.Outcome != Replayed || got.Identifier != "req-1" || got.Duplicate || got.Detail != "" {
		t.Fatalf("result %+v", got)
	}
	m := b.message(got.Sequence)
	want := nats.Header{
		"Nats-Msg-Id":            {fmt.Sprintf("replay-%s-%d-3", b.streams.Epoch(), id)},
		"Meterworker-Identifier": {"req-1"},
		"Meterworker-Timestamp":  {fmt.Sprint(l.Timestamp)},
		"Meterworker-Replay-Of":  {fmt.Sprintf("%d dlq-%s-1-server_error", id, b.streams.Epoch())},
		"Meterworker-Replays":    {"3"},
	}
	if !maps.EqualFunc(m.Header, want, slices.Equal) {
		t.Errorf("headers %q, want exactly %q", m.Header, want)
	}
	if string(m.Data) != odd {
		t.Errorf("body %q, want %q", m.Data, odd)
	}
	if !strings.HasSuffix(m.Subject, ".replay.api=2Ecalls.cus=20_1") || !strings.HasPrefix(m.Subject, "usage.part.") {
		t.Errorf("subject %q", m.Subject)
	}
	if left := b.stored(outbox.DLQStream); left != 0 {
		t.Errorf("%d dead letters left", left)
	}
}

func TestReplayWithRiskTaken(t *testing.T) {
	b := newBench(t)
	l := letter(deadletter.Ambiguous)
	l.Outcome = deadletter.Unknown
	id := b.bury(l, body)
	if got := b.replay(id, Permission{Hopeless: true}); got.Outcome != Refused || !strings.Contains(got.Detail, "--accept-double-billing") {
		t.Fatalf("without the risk: %+v", got)
	}
	if b.stored(outbox.UsageStream) != 0 || b.stored(outbox.DLQStream) != 1 {
		t.Fatal("a refused replay changed something")
	}
	got := b.replay(id, Permission{AcceptDoubleBilling: true})
	if got.Outcome != Replayed {
		t.Fatalf("result %+v", got)
	}
	if h := b.message(got.Sequence).Header.Get(deadletter.HeaderAcceptDoubleBilling); h != "true" {
		t.Errorf("header %q, want true", h)
	}
}

func TestReplayOfUnknownIdentifier(t *testing.T) {
	b := newBench(t)
	l := letter(deadletter.Undecodable)
	l.Identifier, l.Timestamp = "", 0
	got := b.replay(b.bury(l, "garbage"), Permission{Hopeless: true})
	if got.Outcome != Replayed || !strings.Contains(got.Detail, "die again") {
		t.Fatalf("result %+v", got)
	}
	names := slices.Sorted(maps.Keys(b.message(got.Sequence).Header))
	if want := []string{"Meterworker-Replay-Of", "Meterworker-Replays", "Nats-Msg-Id"}; !slices.Equal(names, want) {
		t.Errorf("headers %q, want %q", names, want)
	}
}

func TestReplayTwice(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	if got := b.replay(id, Permission{}); got.Outcome != Replayed {
		t.Fatalf("first: %+v", got)
	}
	if got := b.replay(id, Permission{}); got.Outcome != Missing || !strings.Contains(got.Detail, "replayed or discarded already") {
		t.Errorf("second: %+v", got)
	}
	if n := b.stored(outbox.UsageStream); n != 1 {
		t.Errorf("%d messages stored, want 1", n)
	}
}

// A replay that died between the PubAck and the deletion leaves what this leaves.
func TestReplayInterruptedBeforeDeletion(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	p, result := b.letters.prepare(t.Context(), id, Permission{}, time.Now())
	if result.Outcome != Possible {
		t.Fatalf("result %+v", result)
	}
	ack, err := b.letters.publish(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	got := b.replay(id, Permission{})
	if got.Outcome != Replayed || !got.Duplicate || got.Sequence != ack.Sequence {
		t.Errorf("result %+v, want a duplicate of %d", got, ack.Sequence)
	}
	if usage, dead := b.stored(outbox.UsageStream), b.stored(outbox.DLQStream); usage != 1 || dead != 0 {
		t.Errorf("%d messages and %d letters, want 1 and 0", usage, dead)
	}
}

func TestReplaysAtOnce(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	var all sync.WaitGroup
	results := make([]Result, 8)
	for i := range results {
		all.Go(func() { results[i] = b.replay(id, Permission{}) })
	}
	all.Wait()
	for _, r := range results {
		if r.Outcome != Replayed && r.Outcome != Missing {
			t.Errorf("result %+v", r)
		}
	}
	if usage, dead := b.stored(outbox.UsageStream), b.stored(outbox.DLQStream); usage != 1 || dead != 0 {
		t.Errorf("%d messages and %d letters, want 1 and 0", usage, dead)
	}
}

// A producer may choose any message id; a letter must not vanish for it.
func TestReplayIsNotFooledByAForeignMessageID(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	m := nats.NewMsg("usage.events.api_calls.cus_1")
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("replay-%s-%d-1", b.streams.Epoch(), id))
	m.Data = []byte(body)
	if _, err := b.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := b.replay(id, Permission{}); got.Outcome != Failed || !strings.Contains(got.Detail, "another message") {
		t.Errorf("result %+v", got)
	}
	if dead := b.stored(outbox.DLQStream); dead != 1 {
		t.Errorf("%d letters left, want 1", dead)
	}
}

func TestReplayKeepsTheLetterWhenTheOutboxRefuses(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	config := b.letters.usage.CachedInfo().Config
	config.MaxMsgSize = 10
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := b.replay(id, Permission{}); got.Outcome != Failed || got.Sequence != 0 || !strings.Contains(got.Detail, "publish: ") {
		t.Errorf("result %+v", got)
	}
	if dead := b.stored(outbox.DLQStream); dead != 1 {
		t.Errorf("%d letters left, want 1", dead)
	}
}

// The letter in hand is finished: a signal must not stop between its publication
// and its deletion.
func TestReplayIsNotCutShort(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := b.letters.Replay(ctx, id, Permission{}, time.Now()); got.Outcome != Replayed {
		t.Errorf("result %+v", got)
	}
}

func TestOpenRefusesStreamsOfTwoOutboxes(t *testing.T) {
	b := newBench(t)
	if b.letters.epoch != b.streams.Epoch() || b.letters.epoch == "" {
		t.Fatalf("epoch %q, want %q", b.letters.epoch, b.streams.Epoch())
	}
	config := b.letters.dlq.CachedInfo().Config
	config.Metadata[metaEpoch] = "other"
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.js); err == nil || !strings.Contains(err.Error(), "epoch other") {
		t.Errorf("error %v", err)
	}
	if err := b.js.DeleteStream(t.Context(), outbox.DLQStream); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.js); err == nil || !strings.Contains(err.Error(), "stream USAGE_DLQ does not exist") {
		t.Errorf("error %v", err)
	}
}
