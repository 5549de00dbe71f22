package permissions

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// operation is something that a client can ask of the server.
type operation struct {
	name    string
	subject string
	read    bool     // subscribe instead of publish
	allowed []string // users who may
}

func publishing(name, subject string, allowed ...string) operation {
	return operation{name, subject, false, allowed}
}

func reading(name, subject string, allowed ...string) operation {
	return operation{name, subject, true, allowed}
}

// operations is what can be done with the streams, with who may.
func operations() []operation {
	all := []operation{
		publishing("usage", "usage.events.storage.cus_1", "producer", "operator"),
		publishing("usage of one meter", "usage.events.api_calls.cus_1", "producer", "producer-api-calls", "operator"),
		publishing("a replay", "usage.replay.api_calls.cus_1", "operator"),
		publishing("past the transform", "usage.part.0.events.api_calls.cus_1"),
		publishing("an intent", "usage.journal.0.intent", "worker"),
		publishing("an owner marker", "usage.journal.0.owner", "worker"),
		publishing("an outcome", "usage.journal.0.done", "worker"),
		publishing("a dead letter", "usage.dlq.rejected.api_calls", "worker", "operator"),
		publishing("a record of the audit trail", "usage.audit.replay", "operator"),
		publishing("members", "$KV.usage_control.members", "worker"),
		publishing("the shared rate", "$KV.usage_control.bucket", "worker", "operator"), // doctor asks Stripe with a permit
		publishing("another key", "$KV.usage_control.other"),
		publishing("orders", "$KV.usage_control_durable.orders", "operator"),
		publishing("marks and declarations", "$KV.usage_control_durable.continuity", "worker", "operator"),
		publishing("another durable key", "$KV.usage_control_durable.other"),
		publishing("an ack", "$JS.ACK.USAGE.worker-0.1.1.1.1.0", "worker"),
		publishing("an ack of the journal", "$JS.ACK.USAGE_JOURNAL.x.1.1.1.1.0"),
		publishing("another user's inbox", "_INBOX_operator.x"),
		publishing("the worker's inbox", "_INBOX_worker.x"),
		publishing("account information", "$JS.API.INFO", "worker", "provisioner", "operator"),
		publishing("list of streams", "$JS.API.STREAM.LIST"),
		publishing("names of streams", "$JS.API.STREAM.NAMES"),
		publishing("a stream of one's own", "$JS.API.STREAM.CREATE.MINE"),
		publishing("the server's doings", "$SYS.REQ.SERVER.PING"),
		publishing("anything else", "orders.new"),
		reading("everything", ">"),
		reading("all inboxes", "_INBOX.>"),
		reading("usage", "usage.events.>"),
		reading("the journal", "usage.journal.>"),
		reading("dead letters", "usage.dlq.>"),
		reading("the audit trail", "usage.audit.>"),
		reading("control", "$KV.>"),
		reading("advisories", "$JS.EVENT.>"),
		reading("the API", "$JS.API.>"),
		reading("acks", "$JS.ACK.>"),
	}
	for _, user := range users {
		all = append(all, reading("inbox of "+user, inbox(user)+".>", user))
	}
	return slices.Concat(all, ofStreams(), ofConsumers())
}

// ofStreams are the calls that concern a whole stream.
func ofStreams() []operation {
	everybody := []string{"worker", "provisioner", "operator"}
	people := []string{"worker", "operator"}
	creators := map[string][]string{
		"USAGE": {"provisioner"}, "USAGE_JOURNAL": {"provisioner", "operator"}, "USAGE_DLQ": {"provisioner", "operator"},
		"USAGE_AUDIT": {"provisioner"}, "USAGE_REPORTS": {"provisioner"},
		"KV_usage_control": {"worker", "provisioner"}, "KV_usage_control_durable": {"provisioner", "operator"},
	}
	updaters := map[string][]string{"USAGE": {"provisioner"}, "USAGE_JOURNAL": {"provisioner", "operator"}, "USAGE_DLQ": {"provisioner"}, "USAGE_AUDIT": {"provisioner"}, "USAGE_REPORTS": {"provisioner"}}
	purgers := map[string][]string{"USAGE": {"worker"}, "USAGE_JOURNAL": {"worker"}}
	readers := map[string][]string{"USAGE": people, "USAGE_JOURNAL": people, "USAGE_DLQ": people, "USAGE_AUDIT": {"operator"}, "USAGE_REPORTS": people}
	deleters := map[string][]string{"USAGE_DLQ": {"operator"}}
	direct := map[string][]string{"KV_usage_control": people, "KV_usage_control_durable": people, "USAGE_REPORTS": {"worker"}} // by subject only
	var all []operation
	for stream, creating := range creators {
		for _, o := range []operation{
			publishing("look up", "STREAM.INFO", everybody...),
			publishing("create", "STREAM.CREATE", creating...),
			publishing("update", "STREAM.UPDATE", updaters[stream]...),
			publishing("delete", "STREAM.DELETE"),
			publishing("purge", "STREAM.PURGE", purgers[stream]...),
			publishing("read a message of", "STREAM.MSG.GET", readers[stream]...),
			publishing("delete a message of", "STREAM.MSG.DELETE", deleters[stream]...),
			publishing("copy out", "STREAM.SNAPSHOT"),
			publishing("put back", "STREAM.RESTORE"),
			publishing("step down the leader of", "STREAM.LEADER.STEPDOWN"),
			publishing("list the consumers of", "CONSUMER.LIST"),
		} {
			all = append(all, publishing(o.name+" "+stream, "$JS.API."+o.subject+"."+stream, o.allowed...))
		}
		if users, found := direct[stream]; found {
			all = append(all, publishing("read the last message of a subject of "+stream, "$JS.API.DIRECT.GET."+stream+".$KV.x.y", users...))
		} else {
			all = append(all, publishing("read directly of "+stream, "$JS.API.DIRECT.GET."+stream, readers[stream]...))
		}
	}
	return all
}

// ofConsumers are the calls that concern a consumer.
func ofConsumers() []operation {
	const api = "$JS.API.CONSUMER."
	return []operation{
		publishing("a consumer of USAGE", api+"CREATE.USAGE.worker-0.usage.part.0.>", "provisioner"),
		publishing("a consumer of all of USAGE", api+"CREATE.USAGE.worker-0"),
		publishing("a durable, the old way", api+"DURABLE.CREATE.USAGE.worker-0"),
		publishing("a consumer of the journal", api+"CREATE.USAGE_JOURNAL.x.usage.journal.0.*", "worker"),
		publishing("a consumer of some dead letters", api+"CREATE.USAGE_DLQ.x.usage.dlq.>", "worker"),
		publishing("a consumer of all dead letters", api+"CREATE.USAGE_DLQ.x", "operator"),
		publishing("a consumer of orders", api+"CREATE.KV_usage_control_durable.x.$KV.usage_control_durable.>"),
		publishing("a reader of the past", api+"CREATE.USAGE.reconcile.usage.part.*.*.*.*", "provisioner", "operator"),
		publishing("a reader of the journal's past", api+"CREATE.USAGE_JOURNAL.reconcile.usage.journal.*.*", "worker", "operator"),
		publishing("read on in the past", api+"MSG.NEXT.USAGE.reconcile", "worker", "operator"),
		publishing("another's reader of the past", api+"CREATE.USAGE.worker-0.usage.part.*.*.*.*", "provisioner"),
		publishing("delete a partition's consumer", api+"DELETE.USAGE.worker-0"),
		publishing("delete a consumer of the journal", api+"DELETE.USAGE_JOURNAL.x", "worker"),
		publishing("delete a consumer of dead letters", api+"DELETE.USAGE_DLQ.x", "worker", "operator"),
		publishing("pause a partition's consumer", api+"PAUSE.USAGE.worker-0"),
		publishing("unpin a partition's consumer", api+"UNPIN.USAGE.worker-0.x"),
		publishing("look up a partition's consumer", api+"INFO.USAGE.worker-0", "worker", "provisioner", "operator"),
		publishing("take usage", api+"MSG.NEXT.USAGE.worker-0", "worker"),
		publishing("read on in the journal", api+"MSG.NEXT.USAGE_JOURNAL.x", "worker"),
		publishing("read on in the dead letters", api+"MSG.NEXT.USAGE_DLQ.x", "worker", "operator"),
	}
}

// Who may not do something is told so by the server, and who may is not, user by user and
// operation by operation. There are no streams: what is allowed meets nothing.
func TestWhatIsNotNeededIsDenied(t *testing.T) {
	s := startServer(t)
	denied := 0
	for _, user := range users {
		h := newHandler()
		conn := s.dial(user, nats.ErrorHandler(h.hear))
		for _, o := range operations() {
			want := !slices.Contains(o.allowed, user)
			err := o.attempt(t, conn)
			if got := errors.Is(err, nats.ErrPermissionViolation); got != want {
				t.Errorf("%s: %s (%s): %v, want denied: %v", user, o.name, o.subject, err, want)
			}
			if want {
				denied++
			}
		}
		if conn.IsClosed() {
			t.Errorf("%s: connection is closed", user)
		}
	}
	if got := len(s.log.denials()); got != denied || denied == 0 {
		t.Errorf("the server has logged %d denials, want %d", got, denied)
	}
}

// attempt does it and returns what the server said to the connection.
func (o operation) attempt(t *testing.T, conn *nats.Conn) error {
	t.Helper()
	before := conn.LastError()
	if o.read {
		sub, err := conn.SubscribeSync(o.subject)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := conn.Publish(o.subject, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushTimeout(patience); err != nil { // the server answers in order
		t.Fatal(err)
	}
	if after := conn.LastError(); after != before { //nolint:errorlint // is it the very one of before?
		return after
	}
	return nil
}

// A wrong password, and a user that there is none of, are not let in.
func TestNobodyElseIsLetIn(t *testing.T) {
	s := startServer(t)
	for _, url := range []string{
		"nats://worker:wrong@" + s.Addr().String(),
		"nats://somebody:" + password("worker") + "@" + s.Addr().String(),
		"nats://" + s.Addr().String(),
	} {
		conn, err := nats.Connect(url, nats.Timeout(10*time.Second))
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want an authorization violation", url, err)
		}
	}
}
