package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/natstest"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/simulator"
)

// doctor runs the command for JSON, with settings that fit a testOutbox.
func doctor(t *testing.T, url string, env environment, args ...string) (found []finding, code int) {
	t.Helper()
	all := environment{"NATS_URL": url, "METERWORKER_PARTITIONS": "4", "METERWORKER_MODE": "test"}
	maps.Copy(all, env)
	code, stdout, stderr := runCommand(t, all, append([]string{"doctor", "-o", "json"}, args...)...)
	for line := range strings.Lines(stdout) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		t.Fatalf("no findings: exit %d, %s", code, stderr)
	}
	return found, code
}

// about are the findings of one check.
func about(found []finding, check string) []finding {
	return slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return f.Check != check })
}

// has fails the test unless a finding of the check has the level and the words.
func has(t *testing.T, found []finding, check string, want level, words ...string) {
	t.Helper()
	for _, f := range about(found, check) {
		missing := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.Contains(f.Detail+"\n"+f.Remedy, w) })
		if f.Level == want && len(missing) == 0 {
			return
		}
	}
	t.Errorf("%s: %+v, want %s with %q", check, about(found, check), want, words)
}

// A fleet in order: nothing is a problem, one permit was taken, and nothing was changed.
func TestDoctorFindsAHealthyFleet(t *testing.T) {
	o := newTestOutbox(t)
	o.worker("a", outbox.Showing{State: delivery.StateClosed, Ledger: 1, LedgerOf: 100}, 0, 1, 2, 3)
	kv, err := o.streams.Control(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What a fleet with another rate than this machine's default has left.
	if _, err := kv.Put(t.Context(), "bucket", []byte(`{"configured":700,"rate":600,"known":700,"epoch":"e"}`)); err != nil {
		t.Fatal(err)
	}
	stripe := simulator.New(simulator.Config{Rate: -1, Meters: []simulator.Meter{{EventName: "api_calls"}}})
	server := httptest.NewServer(stripe)
	defer server.Close()
	found, code := doctor(t, o.url, environment{"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": server.URL})
	for _, f := range found {
		if f.Level == levelProblem || (f.Level == levelOK) != (f.Remedy == "") {
			t.Errorf("%+v", f)
		}
	}
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, check := range []string{
		"nats", "nats.jetstream", "nats.version", "nats.replication", "nats.clock", "streams", "streams.continuity", "streams.room", "journal.age",
		"permissions", "workers", "workers.partitions", "workers.ledger", "backlog", "dead_letters", "stripe", "stripe.meters", "stripe.clock",
	} {
		has(t, found, check, levelOK)
	}
	has(t, found, "nats.sync", levelWarning, "cannot be read", "--nats-monitor")
	o.holds(0, 0)
	if orders := o.orders(); orders.Paused || !orders.At.IsZero() {
		t.Errorf("an order was stored: %+v", orders)
	}
	entry, err := kv.Get(t.Context(), "bucket")
	if err != nil || entry.Revision() < 3 || !strings.Contains(string(entry.Value()), `"configured":700`) {
		t.Errorf("no permit was taken, or the fleet's rate was changed: %v, %s", err, entry.Value())
	}
}

func TestDoctorFindsTrouble(t *testing.T) {
	o := newTestOutbox(t)
	found, code := doctor(t, o.url, nil)
	if code != exitFailed {
		t.Errorf("exit %d without a worker", code)
	}
	has(t, found, "workers", levelProblem, "none is there", "meterworker run")
	has(t, found, "stripe", levelWarning, "no key", "STRIPE_API_KEY_FILE")
	found, _ = doctor(t, o.url, environment{"METERWORKER_PARTITIONS": "8"})
	has(t, found, "streams", levelProblem, "metadata partitions is 4", "set METERWORKER_PARTITIONS to it")
	found, _ = doctor(t, o.url, environment{"METERWORKER_MODE": "live"})
	has(t, found, "streams", levelProblem, "metadata mode is test", "give it the other key")
	if err := o.js.DeleteStream(t.Context(), outbox.DLQStream); err != nil {
		t.Fatal(err)
	}
	found, _ = doctor(t, o.url, nil)
	has(t, found, "streams", levelProblem, "stream USAGE_DLQ does not exist", "create it")
}

// Without NATS everything else is still told.
func TestDoctorWithoutNATS(t *testing.T) {
	server := httptest.NewServer(simulator.New(simulator.Config{Rate: -1}))
	defer server.Close()
	found, code := doctor(t, "nats://127.0.0.1:1", environment{"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": server.URL})
	if code != exitFailed {
		t.Errorf("exit %d", code)
	}
	has(t, found, "nats", levelProblem, "127.0.0.1:1", "set NATS_URL")
	has(t, found, "stripe", levelOK, "the key is taken")
	if len(about(found, "streams")) > 0 {
		t.Errorf("streams were judged unseen: %+v", found)
	}
}

// A user without permissions hears what it lacks, check by check, at once.
func TestDoctorIsDenied(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) {
		allow := &natsserver.SubjectPermission{Allow: []string{"$JS.API.INFO", "_INBOX.>"}}
		o.Users = []*natsserver.User{{Username: "little", Password: "pw", Permissions: &natsserver.Permissions{Publish: allow}}}
	})
	began := time.Now()
	found, _ := doctor(t, strings.Replace(server.ClientURL(), "nats://", "nats://little:pw@", 1), nil)
	if took := time.Since(began); took > 2*askTimeout {
		t.Errorf("it took %s", took)
	}
	has(t, found, "nats.jetstream", levelOK)
	has(t, found, "streams", levelWarning, `publish to "$JS.API.STREAM.INFO.USAGE"`, "give it the operator's permissions")
	for _, one := range probes {
		has(t, found, "permissions", levelWarning, one.what, one.subject, "operator's permissions")
	}
}

func TestDoctorReadsTheMonitor(t *testing.T) {
	for _, tt := range []struct {
		name   string
		always bool
		want   level
		words  []string
	}{
		{"synced", true, levelOK, []string{"every write is synced"}},
		{"the default", false, levelProblem, []string{"every 2m only", "a power cut loses", "sync_interval: always"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := natstest.Start(t, func(o *natsserver.Options) { o.SyncAlways, o.HTTPHost, o.HTTPPort = tt.always, "127.0.0.1", -1 })
			found, _ := doctor(t, server.ClientURL(), nil, "--nats-monitor", "http://"+server.MonitorAddr().String())
			has(t, found, "nats.sync", tt.want, tt.words...)
			has(t, found, "streams.room", levelOK, "the server's storage")
		})
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	server := natstest.Start(t)
	found, _ := doctor(t, server.ClientURL(), nil, "--nats-monitor", other.URL)
	has(t, found, "nats.sync", levelWarning, "answers 404", "--nats-monitor")
}

// Stripe that is away, refuses the key, or may not be read are three things.
func TestDoctorTellsStripesAnswersApart(t *testing.T) {
	meters := `{"object":"list","data":[%s],"has_more":false}`
	one := `{"event_name":"api_calls","livemode":false,"customer_mapping":{"event_payload_key":"stripe_customer_id"},"value_settings":{"event_payload_key":"value"}}`
	list := func(meter string) string { return strings.Replace(meters, "%s", meter, 1) }
	refused := `{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: sk_test_secretsecret"}}`
	for _, tt := range []struct {
		name   string
		status int
		body   string
		check  string
		want   level
		words  []string
	}{
		{"well", 200, list(one), "stripe.meters", levelOK, []string{"1 active: api_calls"}},
		{"the key", 401, refused, "stripe", levelProblem, []string{"refuses the key (401)", "put a valid key"}},
		{"no right to read", 403, refused, "stripe", levelWarning, []string{"may not list meters (403)", "read on billing meters"}},
		{"busy", 429, refused, "stripe", levelWarning, []string{"429"}},
		{"down", 503, "", "stripe", levelProblem, []string{"in trouble: it answers 503", "status.stripe.com"}},
		{"a proxy", 302, "", "stripe", levelProblem, []string{"not Stripe as we know it: 302"}},
		{"a proxy's page", 200, "<html>", "stripe.meters", levelProblem, []string{"not Stripe's list"}},
		{"no meters", 200, list(""), "stripe.meters", levelProblem, []string{"no active meter in test mode"}},
		{"other mode", 200, list(strings.Replace(one, "false", "true", 1)), "stripe.meters", levelProblem, []string{"other mode"}},
		{"other customer key", 200, list(strings.Replace(one, "stripe_customer_id", "customer", 1)), "stripe.meters", levelProblem, []string{`"customer"`, "make a meter"}},
		{"other value key", 200, list(strings.Replace(one, `"value"}`, `"tokens"}`, 1)), "stripe.meters", levelProblem, []string{`"tokens"`}},
		{"clock", 200, list(one), "stripe.clock", levelProblem, []string{"behind Stripe's", "NTP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer sk_test_x" || r.URL.Path != "/v1/billing/meters" {
					t.Errorf("asked %s as %q", r.URL, r.Header.Get("Authorization"))
				}
				if tt.check == "stripe.clock" {
					w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			found, _ := doctor(t, "nats://127.0.0.1:1", environment{"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": server.URL})
			has(t, found, tt.check, tt.want, tt.words...)
			for _, f := range found {
				if strings.Contains(f.Detail+f.Remedy, "secretsecret") {
					t.Errorf("shows a key: %+v", f)
				}
			}
		})
	}
	found, _ := doctor(t, "nats://127.0.0.1:1", environment{"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:1"})
	has(t, found, "stripe", levelProblem, "cannot be reached", "DNS, proxy and firewall")
}

func TestDoctorBadUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--nats-monitor ftp://x", "is neither http nor https"},
		{"--nats-monitor nats:8222", "is no URL"},
		{"--nats-monitor http://a:b@x", "has a user in it"},
		{"-o yaml", "must be one of"},
		{"--rate 0", "is not above 0"},
	} {
		code, out, stderr := runCommand(t, environment{"NATS_URL": "nats://127.0.0.1:1"}, append([]string{"doctor"}, strings.Fields(tt.args)...)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit %d, %q, want %q", tt.args, code, stderr, tt.want)
		}
	}
}

// checkName is the name of a check's function.
func checkName(check func(facts) []finding) string {
	name := runtime.FuncForPC(reflect.ValueOf(check).Pointer()).Name()
	return name[strings.LastIndex(name, ".")+1:]
}
