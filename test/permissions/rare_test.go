package permissions

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/outbox"
)

// open is what a worker has, in this process.
func (l *life) open() *outbox.Streams {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	streams, err := outbox.Open(ctx, l.nats.connect("worker"), outbox.Settings{Mode: "test", Partitions: 24, Replicas: 1, AckWait: 30 * time.Second})
	if err != nil {
		l.t.Fatal(err)
	}
	return streams
}

// rare is what a worker does every few minutes, or after an accident only.
func (l *life) rare() {
	l.until("a good moment to stop", l.settled)
	if code := l.second.signal(syscall.SIGTERM); code != 0 {
		l.t.Errorf("exit code %d after SIGTERM", code)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	streams := l.open()
	for p := range streams.Partitions() {
		partition, err := streams.Partition(ctx, p)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := streams.Trim(ctx, partition, 0, time.Now()); err != nil {
			l.t.Error(err)
		}
	}
	l.bury(ctx, streams.DeadLetters(), 1_000_001)
	if _, err := streams.DeadLetters().Counts(ctx); err != nil {
		l.t.Error(err)
	}
	store := journal.NewJetStream(streams.JetStream(), func() {})
	if err := store.PurgeIntents(ctx, 0, 1); err != nil {
		l.t.Error(err)
	}
	l.fence(ctx, store)
	l.reports(ctx, streams, "evt_1")
	for _, user := range []string{"worker", "operator"} {
		l.lastOfEach(ctx, l.nats.connect(user))
	}
}

// bury writes a letter and finds it again, as the next owner does.
func (l *life) bury(ctx context.Context, letters *outbox.DeadLetters, sequence uint64) {
	l.t.Helper()
	letter := deadletter.Letter{Reason: deadletter.Undecodable, Subject: "usage.events.storage.cus_1", Sequence: sequence}
	for _, written := range []bool{false, true} {
		if written {
			if err := letters.Publish(ctx, letter, letter.Header(), []byte("x")); err != nil {
				l.t.Fatal(err)
			}
		}
		if stored, err := letters.Stored(ctx, letter, time.Now().Add(-time.Hour)); stored != written || err != nil {
			l.t.Errorf("the letter is stored: %v, %v, want %v", stored, err, written)
		}
	}
}

// fence has a former owner's write refused: the store reads the last marker.
func (l *life) fence(ctx context.Context, store *journal.JetStream) {
	l.t.Helper()
	former, err := store.Mark(ctx, 0, "m1", []byte("x"))
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := store.Mark(ctx, 0, "m2", []byte("x")); err != nil {
		l.t.Fatal(err)
	}
	if _, err := store.Append(ctx, 0, journal.DoneKind, former, "d1", []byte("x")); !errors.Is(err, journal.ErrLost) {
		l.t.Errorf("a former owner's write: %v", err)
	}
}

// reports is what a worker does with a report of Stripe's: store it, take it, look into the past
// and into the outbox, mark a message, and store what came of it.
func (l *life) reports(ctx context.Context, streams *outbox.Streams, id string) {
	l.t.Helper()
	reports, err := streams.Reports(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := reports.Put(ctx, id, "no_meter_found", []byte("x")); err != nil {
		l.t.Fatal(err)
	}
	report, err := reports.Next()
	if report == nil || err != nil {
		l.t.Fatalf("report %v, %v", report, err)
	}
	lines := 0
	read := journal.NewHistory(streams.JetStream()).Read(ctx, journal.AnyPartition, time.Time{}, time.Now().Add(time.Hour), func(journal.Line) bool { lines++; return lines < 10 })
	_, _, kept := streams.Kept(ctx, 1)
	_, named := reports.Named(ctx, 1)
	_, finished := reports.Finished(ctx, id)
	if err := errors.Join(read, kept, named, finished, report.Alive(), reports.Name(ctx, 1, id), reports.Finish(ctx, id, []byte("{}")), report.Ack()); err != nil || lines == 0 {
		l.t.Errorf("%d lines, %v", lines, err)
	}
}

// byHand has streams as `nats stream add` makes them: with direct gets, and without our
// stamp, which the provisioner adds.
func (l *life) byHand() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	js := l.nats.connect(owner)
	for _, name := range []string{"USAGE", "USAGE_JOURNAL", "USAGE_DLQ", "USAGE_AUDIT", "USAGE_REPORTS"} {
		cfg := l.nats.stream(name).CachedInfo().Config
		cfg.AllowDirect, cfg.Metadata["mode"] = true, ""
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			l.t.Fatal(err)
		}
	}
	l.must("provisioner", "provision", "--mode", "test", "--ack-wait", "3s", "--attempt-timeout", "1s")
	streams := l.open()
	l.fence(ctx, journal.NewJetStream(streams.JetStream(), func() {}))
	l.bury(ctx, streams.DeadLetters(), 1_000_002)
	l.reports(ctx, streams, "evt_2")
	for _, user := range []string{"worker", "operator"} {
		l.lastOfEach(ctx, l.nats.connect(user))
	}
	l.must("operator", "audit")
}

// lastOfEach reads the last message of each stream by its sequence, as the comparison
// with the marks does.
func (l *life) lastOfEach(ctx context.Context, js jetstream.JetStream) {
	l.t.Helper()
	for _, name := range []string{"USAGE", "USAGE_JOURNAL", "USAGE_DLQ"} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			l.t.Fatal(err)
		}
		if _, err := stream.GetMsg(ctx, stream.CachedInfo().State.LastSeq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			l.t.Errorf("%s: %v", name, err)
		}
	}
}
