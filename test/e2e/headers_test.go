package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
)

// smuggled are headers by which a producer would act on our streams, if they were copied
// to a dead letter or a replay. Where the server already refuses them, the number of its
// error is there: the producer hears of it, and nothing is stored.
var smuggled = []struct {
	name    string
	header  nats.Header
	refused jetstream.ErrorCode // 0: stored
}{
	{"roll-up of everything", nats.Header{"Nats-Rollup": {"all"}}, 10111},
	{"roll-up of the subject", nats.Header{"Nats-Rollup": {"sub"}}, 10111},
	{"time to live", nats.Header{"Nats-TTL": {"1s"}}, 10166},
	{"a counter", nats.Header{"Nats-Incr": {"5"}}, 10168},
	{"a batch", nats.Header{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}}, 10174},
	{"a schedule", nats.Header{"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"usage.events.a.b"}}, 10188},
	{"another stream", nats.Header{"Nats-Expected-Stream": {"USAGE_DLQ"}}, 10060},
	{"another last sequence", nats.Header{"Nats-Expected-Last-Sequence": {"999999"}}, 10071},
	{"another last message id", nats.Header{"Nats-Expected-Last-Msg-Id": {"x"}}, 10070},

	{"this stream", nats.Header{"Nats-Expected-Stream": {"USAGE"}}, 0}, // a dead letter that copied it would be refused
	{"last sequence of a subject", nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}, "Nats-Expected-Last-Subject-Sequence-Subject": {"usage.events.z.z"}}, 0},
	{"a marker", nats.Header{"Nats-Marker-Reason": {"Purge"}}, 0},
	{"a deletion of a key", nats.Header{"KV-Operation": {"PURGE"}}, 0},
	{"an API level", nats.Header{"Nats-Required-Api-Level": {"99"}}, 0},
	{"a pinned client", nats.Header{"Nats-Pin-Id": {"another"}}, 0},
	{"a status of the server's", nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}, 0},
	{"a replay's headers", nats.Header{
		"Meterworker-Identifier": {"smuggled"}, "Meterworker-Timestamp": {"0"}, "Meterworker-Replay-Of": {"1"}, "Meterworker-Replays": {"9"},
		"Meterworker-Accept-Double-Billing": {"true"},
	}, 0},
	{"a dead letter's headers", nats.Header{"Meterworker-Reason": {"panic"}, "Meterworker-Outcome": {"unknown"}, "Meterworker-Subject": {"usage.events.x.y"}}, 0},
	{"escape codes", nats.Header{"X-Note": {"\x1b[2J\u202e"}}, 0},
}

// replayed are the only headers of a replay.
var replayed = []string{
	"Nats-Msg-Id", "Meterworker-Identifier", "Meterworker-Timestamp", "Meterworker-Replay-Of", "Meterworker-Replays",
}

// From the producer into the outbox, to the dead letters, back by the command, and to the
// dead letters again: of a producer's headers none comes along, and no stream loses a
// message to them.
func TestSmuggledHeadersEndWithTheirMessage(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	worker := w.start()
	w.until("readiness", worker.ready)
	bad := w.publishSmuggled("1024.5", "bad")
	good := w.publishSmuggled("3", "good")
	w.until("everything to be acked", w.settled)
	if got := int(w.stripe.Totals().Counted); got != good {
		t.Errorf("Stripe counted %d events, want %d", got, good)
	}
	w.lettersArePlain(bad, "0")

	replay := exec.Command(binary, "dlq", "replay", "--all", "--yes")
	replay.Env = []string{"NATS_URL=" + w.nats.ClientURL(), "PATH=" + os.Getenv("PATH")}
	if out, err := replay.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.until("the replays to be dead again", func() bool { return w.settled() && w.letterCount() == bad })
	w.lettersArePlain(bad, "1")
	w.replaysArePlain(good+bad, bad)
}

// publishSmuggled publishes an event with each of the headers, and returns how many
// were stored.
func (w *world) publishSmuggled(value, prefix string) int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stored := 0
	for i, s := range smuggled {
		body := fmt.Sprintf(`{"event_name":"api_calls","identifier":"%s %d","payload":{"stripe_customer_id":"cus_1","value":%s}}`, prefix, i, value)
		_, err := w.js.PublishMsg(ctx, &nats.Msg{Subject: "usage.events.api_calls.cus_1", Header: s.header, Data: []byte(body)})
		var refused *jetstream.APIError
		switch {
		case err == nil && s.refused == 0:
			stored++
		case errors.As(err, &refused) && refused.ErrorCode == s.refused:
		default:
			w.t.Errorf("%s: %v, want the error %d (0: none)", s.name, err, s.refused)
		}
	}
	return stored
}

func (w *world) lettersArePlain(want int, replays string) {
	w.t.Helper()
	letters := w.letters()
	if len(letters) != want {
		w.t.Errorf("%d dead letters, want %d", len(letters), want)
	}
	for _, letter := range letters {
		h := letter.Headers()
		for name := range h {
			if !strings.HasPrefix(name, "Meterworker-") && name != "Nats-Msg-Id" {
				w.t.Errorf("a dead letter has the header %q", name)
			}
		}
		if h.Get("Meterworker-Reason") != "meter_event_invalid_value" || h.Get("Meterworker-Outcome") != "refused" || h.Get("Meterworker-Replays") != replays ||
			h.Get("Meterworker-Subject") == "usage.events.x.y" || h.Get("Meterworker-Accept-Double-Billing") != "" || strings.Contains(h.Get("Meterworker-Identifier"), "smuggled") {
			w.t.Errorf("dead letter %v, want meter_event_invalid_value, refused, replayed %s times", h, replays)
		}
	}
}

// replaysArePlain reads the whole outbox: all that was published is still there, and the
// replays have their own headers only.
func (w *world) replaysArePlain(published, replays int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := w.js.Stream(ctx, "USAGE")
	if err != nil {
		w.t.Fatal(err)
	}
	state := stream.CachedInfo().State
	if state.Msgs != uint64(published+replays) || state.FirstSeq != 1 || state.NumDeleted != 0 {
		w.t.Errorf("the outbox holds %d messages from %d on, %d deleted; want %d from 1 on", state.Msgs, state.FirstSeq, state.NumDeleted, published+replays)
	}
	seen := 0
	for sequence := state.FirstSeq; sequence <= state.LastSeq; sequence++ {
		m, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			w.t.Fatal(err)
		}
		if !strings.Contains(m.Subject, ".replay.") {
			continue
		}
		seen++
		for name := range m.Header {
			if !slices.Contains(replayed, name) {
				w.t.Errorf("a replay has the header %q: %v", name, m.Header[name])
			}
		}
		if m.Header.Get("Meterworker-Replays") != "1" {
			w.t.Errorf("a replay counts %q replays, want 1", m.Header.Get("Meterworker-Replays"))
		}
	}
	if seen != replays {
		w.t.Errorf("%d replays, want %d", seen, replays)
	}
}
