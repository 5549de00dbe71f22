package permissions

import (
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/simulator"
)

// provisioned is a world with streams and n dead letters.
func provisioned(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t, simulator.Config{Rate: -1})
	w.must("provisioner", "provision", "--mode", "test")
	streams, err := outbox.Open(t.Context(), w.nats.connect("worker"), outbox.Settings{Mode: "test", Partitions: 24, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		letter := deadletter.Letter{
			Reason: deadletter.Rejected, Outcome: deadletter.Refused, Subject: "usage.events.storage.cus_1", Sequence: uint64(i + 1),
			Identifier: "req-" + itoa(i), Timestamp: time.Now().Unix(),
		}
		body := `{"event_name":"storage","payload":{"stripe_customer_id":"cus_1","value":1}}`
		if err := streams.DeadLetters().Publish(t.Context(), letter, letter.Header(), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// says fails the test unless the command has failed and said each of the words, and no
// password.
func says(t *testing.T, what, output string, code, want int, words ...string) {
	t.Helper()
	if code != want {
		t.Errorf("%s: exit code %d, want %d\n%s", what, code, want, output)
	}
	for _, word := range words {
		if !strings.Contains(output, word) {
			t.Errorf("%s does not say %q:\n%s", what, word, output)
		}
	}
	for _, user := range append(users, owner) {
		if strings.Contains(output, password(user)) {
			t.Errorf("%s shows the password of %s:\n%s", what, user, output)
		}
	}
}

// event1 is a line for publish.
func event1() string {
	return `{"event_name":"storage","identifier":"e-1","timestamp":` + now() + `,"payload":{"stripe_customer_id":"cus_1","value":1}}`
}

// A command that lacks a permission ends at once, long before its time-out, and names user,
// subject and remedy.
func TestDeniedCommands(t *testing.T) {
	w := provisioned(t, 1)
	const operators, producers = "give it the operator's permissions (deploy/nats/permissions.conf)", "give it the producer's permissions (deploy/nats/permissions.conf)"
	for _, c := range []struct {
		user, line, in string
		words          []string
	}{
		{"producer", "dlq list", "", []string{`"$JS.API.STREAM.INFO.USAGE_DLQ"`, operators}},
		{"producer", "dlq show 1", "", []string{`"$JS.API.STREAM.INFO.USAGE_DLQ"`, operators}},
		{"producer", "dlq replay 1", "", []string{`"$JS.API.STREAM.INFO.USAGE_DLQ"`, operators}},
		{"producer", "pause --timeout 10m", "", []string{`"$JS.API.STREAM.INFO.USAGE_AUDIT"`, operators}},
		{"producer", "resume --timeout 10m", "", []string{`"$JS.API.STREAM.INFO.USAGE_AUDIT"`, operators}},
		{"producer", "audit", "", []string{`"$JS.API.STREAM.INFO.USAGE_AUDIT"`, operators}},
		{"producer", "accept-restored", "", []string{`"$JS.API.STREAM.INFO.USAGE"`, operators}},
		{"producer", "provision --mode test", "", []string{`"$JS.API.STREAM.INFO.USAGE"`, "give it the provisioner's permissions"}},
		{"worker", "pause --timeout 10m", "", []string{`"usage.audit.pause"`, operators}},
		{"worker", "publish --timeout 10m", event1(), []string{`"usage.events.storage.cus_1"`, producers, "nothing was stored"}},
		{
			"producer-api-calls", "publish --timeout 10m --event-name storage --customer cus_1 --value 1 --identifier e-1", "",
			[]string{`"usage.events.storage.cus_1"`, producers, "nothing was stored"},
		},
	} {
		output, code := w.command(c.user, c.in, strings.Fields(c.line)...)
		says(t, c.user+": "+c.line, output, code, 1, append(c.words, `NATS user "`+c.user+`" may not publish to`)...)
		if strings.Contains(output, "warning") {
			t.Errorf("%s: %s says it twice:\n%s", c.user, c.line, output)
		}
	}
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}

// Of many lines those fail that are denied, and no other.
func TestDeniedLines(t *testing.T) {
	w := provisioned(t, 0)
	var lines []string
	for i := range 20 {
		line := strings.ReplaceAll(event1(), "e-1", "e-"+itoa(i))
		if i%2 == 0 {
			line = strings.ReplaceAll(line, "storage", "api_calls")
		}
		lines = append(lines, line)
	}
	output, code := w.command("producer-api-calls", strings.Join(lines, "\n"), "publish", "--timeout", "10m")
	says(t, "publish", output, code, 1, "10 stored, 0 duplicates, 10 failed", "line 2: error: the event was refused and nothing was stored: NATS user")
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 10 {
		t.Errorf("%d messages are stored, want 10", n)
	}
}

// Without the user's inbox no answer comes, and nothing is begun.
func TestDeniedInbox(t *testing.T) {
	w := provisioned(t, 1)
	for _, c := range []struct{ user, prefix, line string }{
		{"producer", "_INBOX", "publish --timeout 10m"},
		{"operator", "_INBOX_worker", "dlq list"},
		{"operator", "_INBOX", "pause --timeout 10m"},
		{"operator", "_INBOX", "accept-restored"},
	} {
		env := []string{"NATS_URL=" + w.nats.url(c.user), "NATS_INBOX_PREFIX=" + c.prefix}
		output, code := w.commandWith(env, event1(), strings.Fields(c.line)...)
		says(t, c.line, output, code, 1, `NATS user "`+c.user+`" may not subscribe to "`+c.prefix+".", "set NATS_INBOX_PREFIX", inbox(c.user))
	}
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}

// A replay that is denied half-way says how far it came, and stops.
func TestDeniedReplay(t *testing.T) {
	w := provisioned(t, 3)
	w.nats.reload(without("operator", "usage.replay.>"))
	output, code := w.command("operator", "", "dlq", "replay", "--all", "--yes")
	says(t, "replay", output, code, 1, `1: failed: NATS user "operator" may not publish to "usage.replay.storage.cus_1"`, "replayed 0, refused 0, failed 1", "not begun: 2")
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 0 || w.letters() != 3 {
		t.Errorf("%d messages and %d letters", n, w.letters())
	}
	w.nats.reload(without("operator", "$JS.API.STREAM.MSG.DELETE.USAGE_DLQ"))
	output, code = w.command("operator", "", "dlq", "replay", "1", "2")
	says(t, "replay", output, code, 1, `may not publish to "$JS.API.STREAM.MSG.DELETE.USAGE_DLQ"`, "it is stored again as 1", "not begun: 1")
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 1 || w.letters() != 3 {
		t.Errorf("%d messages and %d letters", n, w.letters())
	}
	w.nats.reload(without("operator"))
	output = w.must("operator", "dlq", "replay", "--all", "--yes")
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 3 || w.letters() != 0 { // the first one is the one that was stored
		t.Errorf("%d messages and %d letters\n%s", n, w.letters(), output)
	}
}

// Whoever may not write to the audit trail changes nothing.
func TestDeniedRecord(t *testing.T) {
	w := provisioned(t, 2)
	w.nats.reload(without("operator", "usage.audit.>"))
	for _, line := range []string{"dlq replay 1", "dlq discard --all --yes --why x", "dlq edit 1 --yes --set payload.value=7", "pause --timeout 10m", "resume --timeout 10m"} {
		output, code := w.command("operator", "", strings.Fields(line)...)
		says(t, line, output, code, 1, `NATS user "operator" may not publish to "usage.audit.`)
	}
	if n := w.nats.stream("USAGE").CachedInfo().State.Msgs; n != 0 || w.letters() != 2 {
		t.Errorf("%d messages and %d letters", n, w.letters())
	}
	if output := w.must("operator", "audit"); !strings.Contains(output, "no records match") {
		t.Errorf("records: %s", output)
	}
}

// What may fail does not fail the command.
func TestDeniedTidying(t *testing.T) {
	w := provisioned(t, 1)
	w.nats.reload(without("operator", "$JS.API.CONSUMER.DELETE.USAGE_DLQ.*"))
	output, code := w.command("operator", "", "dlq", "list", "-o", "json")
	says(t, "dlq list", output, code, 0, `"reason":"rejected"`, "warning", "CONSUMER.DELETE.USAGE_DLQ")
}

// Who is not let in is told so at once, and not that there is no server.
func TestWrongPassword(t *testing.T) {
	w := provisioned(t, 0)
	url := strings.Replace(w.nats.url("operator"), password("operator"), "wrong0123", 1)
	for _, line := range []string{"dlq list", "publish", "pause --timeout 10m", "accept-restored", "provision --mode test"} {
		output, code := w.commandWith([]string{"NATS_URL=" + url}, event1(), strings.Fields(line)...)
		says(t, line, output, code, 1, `refuses user "operator" (authorization violation)`, "check user and password in NATS_URL")
		if strings.Contains(output, "wrong0123") || strings.Contains(output, "start `meterworker run`") {
			t.Errorf("%s: %s", line, output)
		}
	}
}
