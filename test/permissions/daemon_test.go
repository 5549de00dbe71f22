package permissions

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/meterworker/meterworker/internal/simulator"
)

// A worker that may not do what it has to ends at its start and says what it lacks, with
// the exit code of bad configuration, having sent nothing.
func TestDeniedStart(t *testing.T) {
	w := provisioned(t, 0)
	w.publish("producer", "storage", "a", 5)
	for _, c := range []struct {
		name  string
		env   []string
		words []string
	}{
		{"another user", w.user("producer"), []string{`NATS user "producer" may not publish to "$JS.API.STREAM.INFO.USAGE"`, "give it the worker's permissions"}},
		{"no inbox", []string{"NATS_INBOX_PREFIX=_INBOX"}, []string{`NATS user "worker" may not subscribe to "_INBOX.`, "set NATS_INBOX_PREFIX", "_INBOX_worker"}},
	} {
		p := w.start(c.env...)
		code := p.end()
		says(t, c.name, p.log.String(), code, 2, c.words...)
	}
	if n := w.stripe.Totals().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A worker that would create streams says who can.
func TestDeniedCreation(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	p := w.start("METERWORKER_MANAGE_STREAMS=true")
	code := p.end()
	says(t, "run", p.log.String(), code, 2, `may not publish to "$JS.API.STREAM.CREATE.USAGE"`, "`meterworker provision`", "METERWORKER_MANAGE_STREAMS=false")
}

// A worker that manages its streams needs what both users may, and no more.
func TestWorkerThatManagesItsStreams(t *testing.T) {
	w := newWorld(t, simulator.Config{Rate: -1})
	w.nats.reload(func(o *natsserver.Options) {
		publish := permissionsOf(o, "worker").Publish
		publish.Allow = slices.Concat(publish.Allow, permissionsOf(o, "provisioner").Publish.Allow)
	})
	p := w.start("METERWORKER_MANAGE_STREAMS=true")
	w.until("readiness", p.ready)
	events := w.publish("producer", "storage", "a", 20)
	w.until("everything to be acked", w.settled)
	w.audit(events)
	if denied := w.nats.log.denials(); len(denied) > 0 {
		t.Errorf("the server denied:\n%s", strings.Join(denied, "\n"))
	}
}

// Permissions are taken away under a running worker: it says so once, is not ready, sends
// nothing that it could not record, and delivers everything once they are back.
func TestDeniedWhileRunning(t *testing.T) {
	w := provisioned(t, 0)
	p := w.start()
	w.until("readiness", p.ready)
	events := w.publish("producer", "storage", "a", 20)
	w.until("everything to be acked", w.settled)
	w.nats.reload(without("worker", "usage.journal.*.*"))
	more := w.publish("producer", "storage", "b", 20)
	w.until("the worker not to be ready", func() bool {
		return p.unready(`may not publish to`, `usage.journal.`, "give it the worker's permissions")
	})
	if n := w.stripe.Totals().Requests; n != 20 {
		t.Errorf("%d requests, want 20: it sends what it cannot record", n)
	}
	w.nats.reload(without("worker"))
	w.until("everything to be acked", w.settled)
	w.audit(append(events, more...))
	w.nats.stop()
	w.nats.run()
	w.until("readiness after the next connection", p.ready)
	if n := strings.Count(p.log.String(), "NATS denies what the worker needs"); n != 1 {
		t.Errorf("it has said %d times what it lacks, want once", n)
	}
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// otherPassword changes a user's.
func otherPassword(user string) func(*natsserver.Options) {
	return func(o *natsserver.Options) {
		i := slices.IndexFunc(o.Users, func(u *natsserver.User) bool { return u.Username == user })
		o.Users[i].Password = "another0123"
	}
}

// A worker that is not let in waits and says why, at the start and later, however often it is
// refused, and goes on by itself.
func TestNotLetIn(t *testing.T) {
	w := provisioned(t, 0)
	w.nats.reload(otherPassword("worker"))
	p := w.start()
	refused := func() bool {
		return p.unready(`refuses user \"worker\" (authorization violation)`, "check user and password in NATS_URL")
	}
	w.until("the reason", refused)
	if status, _ := p.get("/livez"); status != 200 {
		t.Errorf("/livez answers %d", status)
	}
	for range 5 { // far more tries than the two after which the client gives up by default
		before := w.nats.refusedLogins()
		w.until("another try", func() bool { return w.nats.refusedLogins() > before })
	}
	w.nats.reload(func(*natsserver.Options) {})
	w.until("readiness", p.ready)
	events := w.publish("producer", "storage", "a", 20)
	w.until("everything to be acked", w.settled)
	w.nats.reload(otherPassword("worker"))
	w.until("the reason", refused)
	for range 5 {
		before := w.nats.refusedLogins()
		w.until("another try", func() bool { return w.nats.refusedLogins() > before })
	}
	events = append(events, w.publish("producer", "storage", "b", 20)...)
	w.nats.reload(func(*natsserver.Options) {})
	w.until("readiness", p.ready)
	w.until("everything to be acked", w.settled)
	w.audit(events)
	if strings.Contains(p.log.String(), password("worker")) {
		t.Error("the log shows the password")
	}
	if n := strings.Count(p.log.String(), "NATS does not let us in"); n > 3 {
		t.Errorf("it has said %d times that it is not let in", n)
	}
}
