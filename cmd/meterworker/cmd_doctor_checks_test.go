package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

// wellFacts are those of a fleet in order, to be changed.
func wellFacts() facts {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	info := func(name string) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: name, MaxBytes: 1000, Replicas: 1}, State: jetstream.StreamState{Msgs: 1, Bytes: 10, FirstTime: now}}
	}
	k := facts{
		cfg:     Config{Partitions: 2, DedupWindow: 864 * time.Hour, Mode: modeTest},
		nats:    natsFacts{version: "2.15.2", id: "S", asked: true, monitor: &varz{ServerID: "S"}, account: &jetstream.AccountInfo{}, clock: &clockReading{now, now, now}},
		outbox:  outboxFacts{infos: map[string]*jetstream.StreamInfo{"USAGE": info("USAGE"), "USAGE_JOURNAL": info("USAGE_JOURNAL"), "USAGE_DLQ": info("USAGE_DLQ")}},
		probes:  []probe{{what: "replay dead letters", subject: "usage.replay.x"}},
		control: *sight(shows(outbox.Showing{State: delivery.StateClosed, Ledger: 1, LedgerOf: 100}, 0, 1)),
		stripe:  stripeFacts{noKey: true},
	}
	k.nats.account.Limits.MaxStore = 1000
	k.nats.monitor.JetStream.Config = &struct {
		MaxStorage   int64         `json:"max_storage"`
		SyncInterval time.Duration `json:"sync_interval"`
		SyncAlways   bool          `json:"sync_always"`
	}{1000, 2 * time.Minute, true}
	return k
}

// fails is, for each check, what makes it fail, and how.
var fails = map[string][]struct {
	name   string
	change func(*facts)
	want   level
	words  string
}{
	"checkReach": {{"away", func(k *facts) { k.nats.err = errors.New("connect: refused; start it") }, levelProblem, "start it"}},
	"checkJetStream": {
		{"off", func(k *facts) { k.nats.jsErr = jetstream.ErrJetStreamNotEnabled }, levelProblem, "enable JetStream"},
		{"denied", func(k *facts) {
			k.nats.jsErr = &denial{operation: "publish", subject: "$JS.API.INFO", needs: roleOperator}
		}, levelWarning, "$JS.API.INFO"},
	},
	"checkVersion": {
		{"old", func(k *facts) { k.nats.version = "2.11.9" }, levelProblem, "2.12"},
		{"no version", func(k *facts) { k.nats.version = "" }, levelProblem, "2.12"},
	},
	"checkSync": {
		{"not asked", func(k *facts) { k.nats.asked = false }, levelWarning, "--nats-monitor"},
		{"no answer", func(k *facts) { k.nats.monErr = errors.New("refused") }, levelWarning, "http_port"},
		{"no JetStream there", func(k *facts) { k.nats.monitor.JetStream.Config = nil }, levelWarning, "has no JetStream"},
		{"lazy", func(k *facts) { k.nats.monitor.JetStream.Config.SyncAlways = false }, levelProblem, "every 2m only: a power cut"},
		{"lazy, three copies", func(k *facts) {
			k.nats.monitor.JetStream.Config.SyncAlways = false
			k.outbox.infos["USAGE"].Config.Replicas = 3
		}, levelWarning, "most servers lose power"},
		{"lazy, another server", func(k *facts) {
			k.nats.monitor.JetStream.Config.SyncAlways, k.nats.monitor.ServerID = false, "other"
		}, levelProblem, "another server of the cluster"},
	},
	"checkReplication": {
		{"one copy in a cluster", func(k *facts) {
			k.nats.cluster, k.outbox.infos["USAGE"].Cluster = "c", &jetstream.ClusterInfo{Leader: "n1"}
		}, levelWarning, "METERWORKER_STREAM_REPLICAS=3"},
		{"a replica is away", func(k *facts) {
			k.outbox.infos["USAGE_DLQ"].Cluster = &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{{Name: "n2", Offline: true}}}
		}, levelWarning, "stream USAGE_DLQ: n2 is offline"},
		{"a replica lags", func(k *facts) {
			k.outbox.infos["USAGE"].Cluster = &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{{Name: "n2", Lag: 7}}}
		}, levelWarning, "n2 is 7 operations behind"},
	},
	"checkNATSClock": {
		{"two minutes", func(k *facts) { k.nats.clock.said = k.nats.clock.said.Add(2 * time.Minute) }, levelWarning, "2m0s behind the NATS"},
		{"an hour", func(k *facts) { k.nats.clock.said = k.nats.clock.said.Add(-time.Hour) }, levelProblem, "ahead of the NATS"},
	},
	"checkStreams": {
		{"refused", func(k *facts) {
			k.outbox.openErr = &outbox.Refused{Problems: []string{"stream USAGE: storage is memory: recreate it", "key-value bucket x does not exist; restore it"}}
		}, levelProblem, "stream USAGE: storage is memory\nrecreate it"},
		{"no answer", func(k *facts) { k.outbox.openErr = errors.New("timeout") }, levelProblem, "quorum"},
	},
	"checkContinuity": {
		{"gone", func(k *facts) {
			k.control.Findings = []outbox.Finding{{Stream: "USAGE_JOURNAL", Break: outbox.Gone}}
		}, levelProblem, "accept-restored --stream USAGE_JOURNAL"},
		{"not known", func(k *facts) { k.outbox.lookErr = errors.New("timeout") }, levelWarning, "cannot be told"},
	},
	"checkRoom": {
		{"81 %", func(k *facts) { k.outbox.infos["USAGE"].State.Bytes = 810 }, levelWarning, "METERWORKER_RETENTION"},
		{"96 %", func(k *facts) { k.outbox.infos["USAGE"].State.Bytes = 960 }, levelProblem, "96 %"},
		{"no limit", func(k *facts) { k.outbox.infos["USAGE"].Config.MaxBytes = -1 }, levelWarning, "no size limit"},
		{"the account", func(k *facts) { k.nats.account.Store = 960 }, levelProblem, "account's JetStream limit"},
		{"the server", func(k *facts) {
			k.nats.monitor.JetStream.Stats = &struct {
				Storage uint64 `json:"storage"`
			}{960}
		}, levelProblem, "max_file_store"},
	},
	"checkJournalAge": {{"short", func(k *facts) { k.outbox.infos["USAGE_JOURNAL"].Config.MaxAge = 40 * time.Hour }, levelWarning, "METERWORKER_DEDUP_WINDOW=40h"}},
	"checkPermissions": {
		{"denied", func(k *facts) {
			k.probes[0].err = &denial{operation: "publish", subject: "usage.replay.x", needs: roleOperator}
		}, levelWarning, "operator's permissions"},
		{"silent", func(k *facts) { k.probes[0].err = errors.New("timeout") }, levelWarning, "no answer"},
	},
	"checkWorkers": {
		{"none", func(k *facts) { k.control.Members = outbox.Look{} }, levelProblem, "meterworker run"},
		{"halted", func(k *facts) { shows(outbox.Showing{State: delivery.StateHalted, Reason: "401"}, 0, 1)(&k.control) }, levelProblem, "a is halted: 401"},
		{"open", func(k *facts) { shows(outbox.Showing{State: delivery.StateOpen}, 0, 1)(&k.control) }, levelWarning, "status page"},
		{"paused", func(k *facts) { shows(outbox.Showing{State: delivery.StatePaused}, 0, 1)(&k.control) }, levelWarning, "resume"},
	},
	"checkPartitions": {{"unowned", func(k *facts) { shows(outbox.Showing{State: "closed"}, 1)(&k.control) }, levelProblem, "1 of 2 partitions have no owner: 0"}},
	"checkLedger":     {{"near its cap", func(k *facts) { shows(outbox.Showing{Ledger: 90, LedgerOf: 100}, 0, 1)(&k.control) }, levelWarning, "METERWORKER_LEDGER_MAX_BYTES"}},
	"checkBacklog": {
		{"an hour", func(k *facts) { waits(1, 0, time.Hour)(&k.control) }, levelWarning, "status --watch"},
		{"a day", func(k *facts) { waits(1, 0, 24*time.Hour)(&k.control) }, levelProblem, "status --watch"},
	},
	"checkOrders":  {{"paused", func(k *facts) { k.control.Orders = outbox.Orders{Paused: true, By: "eve"} }, levelWarning, "paused by eve"}},
	"checkLetters": {{"one", func(k *facts) { k.control.Letters = map[deadletter.Reason]int{deadletter.Rejected: 1} }, levelWarning, "1 wait: rejected 1\n`meterworker dlq list`"}},
	"checkStripe": {
		{"no key", func(*facts) {}, levelWarning, "STRIPE_API_KEY_FILE"},
		{"no permit", func(k *facts) { k.stripe = stripeFacts{permitErr: errors.New("deadline")} }, levelWarning, "no permit within"},
		{"denied a permit", func(k *facts) {
			k.stripe = stripeFacts{permitErr: &denial{operation: "publish", subject: "$KV.usage_control.bucket", needs: roleOperator}}
		}, levelWarning, "for want of a permit"},
	},
	"checkMeters": {{"another's answer", func(k *facts) { k.stripe.reading.Status, k.stripe.reading.Body = 200, []byte("{}") }, levelProblem, "STRIPE_API_BASE"}},
	"checkStripeClock": {{"behind", func(k *facts) {
		now := time.Now()
		k.stripe.clock = &clockReading{now, now, now.Add(2 * time.Minute)}
	}, levelWarning, "behind Stripe's"}},
}

// Every check finds its trouble, with a remedy, and nothing where everything is well.
func TestEveryCheckCanFail(t *testing.T) {
	names := []string{}
	for _, check := range checks() {
		name := checkName(check)
		names = append(names, name)
		for _, f := range check(wellFacts()) {
			if f.Level != levelOK && name != "checkStripe" { // which was given no key
				t.Errorf("%s: all is well, and it finds %+v", name, f)
			}
		}
		for _, tt := range fails[name] {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				k := wellFacts()
				tt.change(&k)
				found := check(k)
				if !slices.ContainsFunc(found, func(f finding) bool {
					return f.Level == tt.want && f.Remedy != "" && strings.Contains(f.Detail+"\n"+f.Remedy, tt.words)
				}) {
					t.Errorf("%+v, want %s with %q", found, tt.want, tt.words)
				}
			})
		}
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(fails)); !slices.Equal(names, want) {
		t.Errorf("checks %q, with cases %q", names, want)
	}
}
