package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

const (
	// nearlyFull and full are shares of a limit.
	nearlyFull = 0.8
	full       = 0.95
)

func checkReach(k facts) []finding {
	if k.nats.err == nil {
		return []finding{fine("nats", "connected to %s", redactURL(natsAddress(k.cfg)))}
	}
	detail, remedy, found := strings.Cut(k.nats.err.Error(), "; ")
	if !found {
		remedy = "check NATS_URL, and the credentials of the operator"
	}
	return []finding{fine("nats", "%s", detail).problem(remedy)}
}

func natsAddress(c Config) string {
	if c.NATSURL == "" {
		return localServer
	}
	return c.NATSURL
}

func checkJetStream(k facts) []finding {
	switch n := k.nats; {
	case n.err != nil:
		return nil
	case n.jsErr == nil:
		return []finding{fine("nats.jetstream", "answers: %d streams in this account", n.account.Streams)}
	case isDenial(n.jsErr):
		return []finding{denialFinding("nats.jetstream", n.jsErr)}
	default:
		return []finding{fine("nats.jetstream", "does not answer: %v", n.jsErr).problem("enable JetStream in the server's configuration and for this account (docs/nats.md)")}
	}
}

func isDenial(err error) bool {
	_, ok := errors.AsType[*denial](err)
	return ok
}

// denialFinding says what is not known for want of a permission.
func denialFinding(check string, err error) finding {
	d, ok := errors.AsType[*denial](err)
	if !ok {
		return fine(check, "cannot be read: %v", err).warn("see the finding on nats")
	}
	return fine(check, "cannot be read: this NATS user may not %s to %q", d.operation, d.subject).warn(d.remedy())
}

// checkVersion holds the server to docs/nats.md.
func checkVersion(k facts) []finding {
	if k.nats.err != nil {
		return nil
	}
	f := fine("nats.version", "nats-server %s", k.nats.version)
	var major, minor int
	if _, err := fmt.Sscanf(k.nats.version, "%d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 12 {
		return []finding{f.problem("update it to 2.12 or later")}
	}
	return []finding{f}
}

// checkSync is about the one setting that decides whether a power cut loses usage. No
// permission shows it: the server tells it on its monitoring port only.
func checkSync(k facts) []finding {
	const check = "nats.sync"
	n := k.nats
	const always = "set jetstream { sync_interval: always } in the server's configuration"
	switch {
	case n.err != nil:
		return nil
	case !n.asked:
		return []finding{fine(check, "how the server writes to disk cannot be read over this connection").
			warn("run this again with --nats-monitor http://HOST:8222, or see that the server's configuration has sync_interval: always")}
	case n.monErr != nil:
		return []finding{fine(check, "the monitoring address does not answer: %v", n.monErr).warn("check --nats-monitor, and http_port in the server's configuration")}
	case n.monitor.JetStream.Config == nil:
		return []finding{fine(check, "the server at the monitoring address has no JetStream").warn("give the address of the server that stores the streams")}
	case n.monitor.JetStream.Config.SyncAlways:
		return []finding{fine(check, "every write is synced%s", n.otherServer())}
	}
	f := fine(check, "the server writes to disk every %s only%s", shortDuration(n.monitor.JetStream.Config.SyncInterval), n.otherServer())
	if usage := k.outbox.infos[outbox.UsageStream]; usage != nil && usage.Config.Replicas >= 3 {
		f.Detail += fmt.Sprintf(": with %d replicas usage is lost only if most servers lose power at once", usage.Config.Replicas)
		return []finding{f.warn(always)}
	}
	f.Detail += ": a power cut loses what was acknowledged since"
	return []finding{f.problem(always)}
}

// otherServer warns of a page that is another server's than the one we talk to.
func (n natsFacts) otherServer() string {
	if n.monitor.ServerID == n.id {
		return ""
	}
	return " (another server of the cluster than the one that this connection reached; ask each)"
}

func checkReplication(k facts) []finding {
	const check = "nats.replication"
	usage := k.outbox.infos[outbox.UsageStream]
	if usage == nil {
		return nil // what is missing is named by the check of the streams
	}
	found := []finding{}
	for name, info := range k.outbox.infos {
		if late := lateReplicas(info); len(late) > 0 {
			found = append(found, fine(check, "stream %s: %s", name, strings.Join(late, ", ")).warn("look after these servers of the NATS cluster"))
		}
	}
	copies := usage.Config.Replicas
	switch {
	case len(found) > 0:
	case copies == 1 && k.nats.cluster != "" && usage.Cluster != nil:
		found = append(found, fine(check, "the streams have one copy in a cluster: while its server is away nothing is delivered, and its disk is the only one").
			warn("set METERWORKER_STREAM_REPLICAS=3, and num_replicas of the streams to 3"))
	case copies == 1:
		found = append(found, fine(check, "one server, one copy"))
	default:
		found = append(found, fine(check, "%d copies, all of them current", copies))
	}
	return found
}

// lateReplicas are servers that do not follow their stream's leader.
func lateReplicas(info *jetstream.StreamInfo) []string {
	if info.Cluster == nil {
		return nil
	}
	var late []string
	for _, replica := range info.Cluster.Replicas {
		switch {
		case replica.Offline:
			late = append(late, replica.Name+" is offline")
		case !replica.Current:
			late = append(late, fmt.Sprintf("%s is %d operations behind", replica.Name, replica.Lag))
		}
	}
	return late
}

func checkNATSClock(k facts) []finding {
	if k.nats.clock == nil {
		return nil
	}
	return []finding{clockFinding("nats.clock", "the NATS server's", *k.nats.clock)}
}

// checkRoom looks at everything that can be full: a stream refuses producers then, and a disk
// answers nobody.
func checkRoom(k facts) []finding {
	const check = "streams.room"
	var found []finding
	if usage := k.outbox.infos[outbox.UsageStream]; usage != nil {
		if usage.Config.MaxBytes <= 0 {
			found = append(found, fine(check, "stream %s has no size limit: should the disk fill, the journal and the dead letters cannot be written either", outbox.UsageStream).
				warn("set max_bytes of USAGE to two thirds of the room for JetStream"))
		} else {
			found = append(found, roomFinding(check, "stream USAGE", usage.State.Bytes, usage.Config.MaxBytes,
				"have the workers deliver (`meterworker status`), lower METERWORKER_RETENTION, or raise max_bytes of USAGE"))
		}
	}
	if a := k.nats.account; a != nil && a.Limits.MaxStore > 0 {
		found = append(found, roomFinding(check, "the account's storage", a.Store, a.Limits.MaxStore, "raise the account's JetStream limit (max_file)"))
	}
	if m := k.nats.monitor; m != nil && m.JetStream.Config != nil && m.JetStream.Stats != nil && m.JetStream.Config.MaxStorage > 0 {
		found = append(found, roomFinding(check, "the server's storage", m.JetStream.Stats.Storage, m.JetStream.Config.MaxStorage, "raise max_file_store of the server, within its disk"))
	}
	return found
}

func roomFinding(check, what string, used uint64, most int64, remedy string) finding {
	f := fine(check, "%s holds %s", what, ofMost(used, most))
	switch share := float64(used) / float64(most); {
	case share >= full:
		return f.problem(remedy)
	case share >= nearlyFull:
		return f.warn(remedy)
	default:
		return f
	}
}

// checkJournalAge tells how far back it is known what was billed.
func checkJournalAge(k facts) []finding {
	const check = "journal.age"
	journal := k.outbox.infos[outbox.JournalStream]
	if journal == nil {
		return nil
	}
	f := fine(check, "nothing recorded yet")
	if journal.State.Msgs > 0 {
		f = fine(check, "deliveries are known since %s", journal.State.FirstTime.UTC().Format(time.RFC3339))
	}
	if kept := journal.Config.MaxAge; kept > 0 && k.cfg.DedupWindow > kept {
		f.Detail += fmt.Sprintf("; the stream keeps %s, less than METERWORKER_DEDUP_WINDOW=%s: identifiers are forgotten earlier than set",
			shortDuration(kept), shortDuration(k.cfg.DedupWindow))
		return []finding{f.warn("raise max_age of " + outbox.JournalStream + ", or set METERWORKER_DEDUP_WINDOW=" + shortDuration(kept))}
	}
	return []finding{f}
}
