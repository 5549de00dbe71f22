package permissions

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// life is a fleet's life under the configuration, chapter by chapter.
type life struct {
	*world
	first, second *worker
	events        []usage.Event
}

// Everything that the users have to do they may do, and the server denies nothing; and
// everything that they may do has been done, so that no permission is too much.
func TestWhatIsNeededIsAllowed(t *testing.T) {
	l := &life{world: newWorld(t, simulator.Config{Rate: -1})}
	for _, chapter := range []struct {
		name string
		play func()
	}{
		{"provision", l.provision},
		{"deliver", l.deliver},
		{"hand over and take over", l.takeOver},
		{"dead letters", l.replay},
		{"pause and resume", l.pause},
		{"streams that are gone", l.gone},
		{"old copies", l.copies},
		{"trimming and letters of uncertain fate", l.rare},
		{"streams that were made by hand", l.byHand},
	} {
		chapter.play()
		if denied := l.nats.log.denials(); len(denied) > 0 || t.Failed() {
			t.Fatalf("%s: the server denied %d times:\n%s", chapter.name, len(denied), strings.Join(denied, "\n"))
		}
	}
	l.audit(l.events)
	l.nats.log.note(l.nats.Server)
	for _, user := range users {
		l.nothingIdle(user)
	}
}

// nothingIdle names the permissions that a user has not used.
func (l *life) nothingIdle(user string) {
	l.t.Helper()
	uses := l.nats.log.uses(user)
	if len(uses) == 0 {
		l.t.Fatalf("%s has done nothing", user)
	}
	for _, allowed := range permissionsOf(l.nats.options(), user).Publish.Allow {
		used := false
		for _, subject := range uses {
			used = used || natsserver.SubjectsCollide(allowed, subject)
		}
		if !used {
			l.t.Errorf("%s may publish to %s and never does", user, allowed)
		}
	}
}

func (l *life) provision() {
	for range 2 { // the second changes nothing
		if output := l.must("provisioner", "provision", "--mode", "test", "--ack-wait", "3s", "--attempt-timeout", "1s"); !strings.Contains(output, "24 consumers") {
			l.t.Errorf("provision says %q", output)
		}
	}
}

func (l *life) deliver() {
	l.first = l.start()
	l.until("readiness", l.first.ready)
	l.events = append(l.events, l.publish("producer", "storage", "a", 100)...)
	l.events = append(l.events, l.publish("producer-api-calls", "api_calls", "b", 100)...)
	l.until("everything to be acked", l.settled)
	if n := l.first.metric(`meterworker_settled_total{disposition="delivered"}`); n != 200 {
		l.t.Errorf("%v delivered, want 200", n)
	}
	l.until("the gauges", func() bool { return l.first.metric("meterworker_ledger_identifiers") == 200 })
	body := `{"event_name":"storage","identifier":"c-0","timestamp":` + now() + `,"payload":{"stripe_customer_id":"cus_1","value":1}}`
	if output, code := l.command("operator", body, "publish"); code != 0 || !strings.Contains(output, "stored sequence=201") {
		l.t.Errorf("publish: exit code %d, %s", code, output)
	}
	l.events = append(l.events, event(l.t, "storage", "cus_1", "c-0"))
}

func now() string {
	text, _ := json.Marshal(time.Now().Unix())
	return string(text)
}

func (l *life) takeOver() {
	owned := func(p *worker) float64 { return p.metric("meterworker_partitions_owned") }
	l.second = l.start()
	l.until("both to own a share", func() bool {
		return l.second.ready() && owned(l.second) > 0 && owned(l.first)+owned(l.second) == 24
	})
	l.events = append(l.events, l.publish("producer", "storage", "d", 200)...)
	l.first.signal(syscall.SIGKILL)
	l.events = append(l.events, l.publish("producer", "storage", "e", 100)...)
	l.until("one to own everything", func() bool { return owned(l.second) == 24 })
	l.until("everything to be acked", l.settled)
	l.first = l.start()
	l.until("both to own a share", func() bool { return l.first.ready() && owned(l.first) > 0 && owned(l.second) < 24 })
	if code := l.first.signal(syscall.SIGTERM); code != 0 {
		l.t.Errorf("exit code %d after SIGTERM", code)
	}
	l.until("one to own everything", func() bool { return owned(l.second) == 24 })
}

func (l *life) replay() {
	for range 4 {
		l.bad("usage.events.storage.cus_1")
	}
	l.until("four dead letters", func() bool { return l.letters() == 4 })
	if output := l.must("operator", "dlq", "list"); strings.Count(output, "undecodable") != 4+2 { // twice in the counts
		l.t.Errorf("dlq list: %s", output)
	}
	l.must("operator", "dlq", "list", "--reason", "undecodable,ambiguous", "--event-name", "storage", "-o", "json")
	l.must("operator", "dlq", "list", "--reason", "undecodable")
	if output := l.must("operator", "dlq", "show", "1"); !strings.Contains(output, "this is no event") {
		l.t.Errorf("dlq show: %s", output)
	}
	l.must("operator", "dlq", "replay", "--all", "--dry-run", "--yes")
	l.must("operator", "dlq", "replay", "1", "2")
	l.until("them to die again", func() bool { return l.letters() == 4 && l.settled() })
	l.must("operator", "dlq", "replay", "--reason", "undecodable", "--yes")
	l.until("all to die again", func() bool { return l.letters() == 4 && l.settled() })
	l.byHands()
}

// byHands is what else an operator does to letters, and the trail that it leaves.
func (l *life) byHands() {
	id := l.lastLetter()
	if output := l.must("operator", "dlq", "list", "--groups"); !strings.Contains(output, "undecodable") {
		l.t.Errorf("dlq list --groups: %s", output)
	}
	kept := l.must("operator", "dlq", "export", "--reason", "undecodable", "--limit", "1")
	l.must("operator", "dlq", "edit", itoa(id), "--yes", "--set", "event_name=storage", "--set", "identifier=edited",
		"--set", "payload.stripe_customer_id=cus_1", "--set", "payload.value=1", "--why", "a test")
	l.events = append(l.events, event(l.t, "storage", "cus_1", "edited"))
	for _, number := range regexp.MustCompile(`dlq-[^-]+-([0-9]+)-`).FindStringSubmatch(kept)[1:] { // a letter of another message
		kept = strings.NewReplacer("-"+number+"-", "-7000000-", `"Meterworker-Sequence":["`+number+`"]`, `"Meterworker-Sequence":["7000000"]`).Replace(kept)
	}
	for _, want := range []string{"imported 1, already there 0", "imported 0, already there 1"} {
		if output, code := l.command("operator", kept, "dlq", "import"); code != 0 || !strings.Contains(output, want) {
			l.t.Errorf("dlq import: exit code %d, %s", code, output)
		}
	}
	l.must("operator", "dlq", "discard", itoa(l.lastLetter()), "--why", "a test")
	l.must("operator", "dlq", "replay", itoa(id-1), "--wait", "1ms")
	l.until("it to die again", func() bool { return l.letters() == 3 && l.settled() })
	if output := l.must("operator", "audit", "--action", "discard"); !strings.Contains(output, "discarded 1") {
		l.t.Errorf("audit: %s", output)
	}
}

// lastLetter is the number of the letter that died last.
func (l *life) lastLetter() int {
	return int(l.nats.stream("USAGE_DLQ").CachedInfo().State.LastSeq)
}

func (l *life) pause() {
	if output := l.must("operator", "pause", "--why", "a test"); !strings.Contains(output, "1 of 1 workers have stopped fetching") {
		l.t.Errorf("pause: %s", output)
	}
	l.events = append(l.events, l.publish("producer", "storage", "f", 20)...)
	if l.settled() {
		l.t.Error("a paused fleet delivers")
	}
	l.must("operator", "resume", "-o", "json")
	l.until("everything to be acked", l.settled)
	l.look()
	if output := l.must("operator", "accept-restored"); !strings.Contains(output, "nothing is to be declared") {
		l.t.Errorf("accept-restored: %s", output)
	}
}

// look has the operator see how it goes, and what is wrong.
func (l *life) look() {
	l.t.Helper()
	if output := l.must("operator", "status", "--over", "0s"); !strings.HasPrefix(output, "idle") {
		l.t.Errorf("status: %s", output)
	}
	env := append(l.user("operator"), "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE="+l.http.URL)
	output, _ := l.commandWith(env, "", "doctor") // exit code 1: the simulator lists no meters
	for _, want := range []string{"may do what an operator does", "the key is taken", "are as the worker wants them", "all 24 partitions have an owner"} {
		if !strings.Contains(output, want) {
			l.t.Errorf("doctor does not say %q:\n%s", want, output)
		}
	}
	if output, code := l.commandWith(env, "", "reconcile", "--since", "3h"); code != 0 || !strings.Contains(output, "unsettled 0") {
		l.t.Errorf("reconcile: exit code %d, %s", code, output)
	}
}

// declare waits for the halt, has the operator see why, and declares what there is.
func (l *life) declare(streams ...string) {
	l.t.Helper()
	for _, stream := range streams {
		l.until("the halt over "+stream, func() bool { return l.second.unready(stream) })
	}
	args := []string{"accept-restored", "--why", "a test", "--yes"}
	output, code := l.command("operator", "", "accept-restored")
	for _, stream := range streams {
		if code != 1 || !strings.Contains(output, "stream "+stream+": ") {
			l.t.Fatalf("accept-restored: exit code %d, want 1 and a word on %s:\n%s", code, stream, output)
		}
	}
	for line := range strings.Lines(output) {
		if rest, found := strings.CutPrefix(line, "stream "); found {
			name, _, _ := strings.Cut(rest, ":")
			args = append(args, "--stream", name)
		}
	}
	l.must("operator", args...)
	l.until("the worker to go on", l.second.ready)
}

// gone has each stream deleted that can be declared, and made anew by the operator.
func (l *life) gone() {
	for _, name := range []string{"USAGE_JOURNAL", "USAGE_DLQ", "KV_usage_control_durable"} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := l.nats.connect(owner).DeleteStream(ctx, name); err != nil {
			l.t.Fatal(err)
		}
		cancel()
		l.declare(strings.TrimPrefix(name, "KV_"))
	}
	l.events = append(l.events, l.publish("producer", "storage", "g", 20)...)
	l.until("everything to be acked", l.settled)
}

// copies puts old copies back, at first of USAGE and the journal, which have grown
// since; the server's restart takes the bucket in memory, too.
func (l *life) copies() {
	kept := l.t.TempDir()
	l.nats.stop()
	for _, name := range []string{"USAGE", "USAGE_JOURNAL"} {
		if err := os.CopyFS(kept+"/"+name, os.DirFS(l.nats.dir(name))); err != nil {
			l.t.Fatal(err)
		}
	}
	l.nats.run()
	l.until("the worker to be back", l.second.ready)
	l.publish("producer", "storage", "h", 20)
	l.until("everything to be acked", l.settled)
	l.nats.stop()
	for _, name := range []string{"USAGE", "USAGE_JOURNAL"} {
		if err := os.RemoveAll(l.nats.dir(name)); err != nil {
			l.t.Fatal(err)
		}
		if err := os.CopyFS(l.nats.dir(name), os.DirFS(kept+"/"+name)); err != nil {
			l.t.Fatal(err)
		}
	}
	l.nats.run()
	l.declare("USAGE", "USAGE_JOURNAL")
	l.events = append(l.events, l.delivered("h", 20)...)
	l.events = append(l.events, l.publish("producer", "storage", "i", 20)...)
	l.until("everything to be acked", l.settled)
}

// delivered are events that were published and delivered before.
func (l *life) delivered(name string, n int) []usage.Event {
	events := make([]usage.Event, n)
	for i := range events {
		events[i] = event(l.t, "storage", "cus_"+itoa(i), name+"-"+itoa(i))
	}
	return events
}

func itoa(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}
