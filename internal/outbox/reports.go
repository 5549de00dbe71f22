package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ReportsStream holds what Stripe has reported later, and what was made of it.
const ReportsStream = "USAGE_REPORTS"

// Subjects of the stream. A report has three tokens, what was made of it four.
const (
	reportPrefix = "usage.reports."
	donePrefix   = reportPrefix + "done."  // by the report's id: what came of it
	reportID     = "report-"               // before the report's id, in its message's
	namedPrefix  = reportPrefix + "named." // by a message's number: it has had its letter
)

const (
	// reportWindow is how long a report's id is remembered: Stripe repeats a delivery for
	// 3 days. A meter has at most one report in 10 s, so that is some 35,000 ids of 129
	// bytes for one that errs without pause.
	reportWindow = 4 * 24 * time.Hour

	// leastReportAge keeps the marks of who has had a letter for as long as a replay is
	// possible (35 days), and a margin.
	leastReportAge = 40 * 24 * time.Hour

	reportAckWait = 30 * time.Second
	reportPending = 1000 // handed out, or handed back with a delay
	reportWait    = 5 * time.Second
)

func (s *Streams) reportsConfig() jetstream.StreamConfig {
	cfg := s.config(ReportsStream, reportPrefix+"*", reportPrefix+"*.*")
	cfg.Description = "meterworker: usage that Stripe accepted and rejected later"
	cfg.Duplicates, cfg.MaxAge = reportWindow, leastReportAge
	delete(cfg.Metadata, metaEpoch) // the marks name it, and reports outlive a USAGE that is made anew
	return cfg
}

func (s *Streams) reportsConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "worker", FilterSubject: reportPrefix + "*",
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: reportAckWait, MaxDeliver: -1, MaxAckPending: reportPending,
		Metadata: map[string]string{metaFormat: formatVersion},
	}
}

// Reports is the stream of reports, open and checked. Any worker may take a report: what
// is done with one is done once however often it is begun.
type Reports struct {
	streams  *Streams
	stream   jetstream.Stream
	consumer jetstream.Consumer
}

// Reports creates the stream and its consumer where they are missing, and checks them. The
// error is a [Refused] when a person must act.
func (s *Streams) Reports(ctx context.Context) (*Reports, error) {
	stream, err := s.ensure(ctx, s.reportsConfig())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	want := s.reportsConsumer()
	consumer, err := stream.Consumer(ctx, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound) && s.settings.Manage:
		consumer, err = stream.CreateOrUpdateConsumer(ctx, want)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, &Refused{[]string{fmt.Sprintf("consumer %s of stream %s does not exist; create it, or set METERWORKER_MANAGE_STREAMS=true", want.Durable, ReportsStream)}}
	}
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", want.Durable, ReportsStream, err)
	}
	if problems := checkConsumer(consumer.CachedInfo().Config, want); len(problems) > 0 {
		return nil, &Refused{problems}
	}
	return &Reports{streams: s, stream: stream, consumer: consumer}, nil
}

// Put stores a report under its id and awaits the PubAck. Stored before is stored. The type
// is one token.
func (r *Reports) Put(ctx context.Context, id, kind string, body []byte) error {
	return r.publish(ctx, reportPrefix+kind, reportID+id, body)
}

func (r *Reports) publish(ctx context.Context, subject, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := r.streams.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: body},
		jetstream.WithMsgID(id), jetstream.WithExpectStream(ReportsStream))
	if err != nil {
		return fmt.Errorf("store %s: %w", subject, err)
	}
	return nil
}

// Finish stores what came of a report.
func (r *Reports) Finish(ctx context.Context, id string, result []byte) error {
	return r.publish(ctx, donePrefix+id, "done-"+id, result)
}

// Finished reports whether that is stored.
func (r *Reports) Finished(ctx context.Context, id string) (bool, error) {
	return r.has(ctx, donePrefix+id)
}

// Name marks a message as one that has had its letter, because of a report.
func (r *Reports) Name(ctx context.Context, sequence uint64, report string) error {
	number := strconv.FormatUint(sequence, 10)
	return r.publish(ctx, namedPrefix+r.streams.epoch+"-"+number, "named-"+r.streams.epoch+"-"+number, []byte(report))
}

// Named reports whether a message is marked.
func (r *Reports) Named(ctx context.Context, sequence uint64) (bool, error) {
	return r.has(ctx, namedPrefix+r.streams.epoch+"-"+strconv.FormatUint(sequence, 10))
}

func (r *Reports) has(ctx context.Context, subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := r.stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	default:
		return false, fmt.Errorf("look for %s: %w", subject, err)
	}
}

// Report is one report in this worker's hands.
type Report struct {
	raw  jetstream.Msg
	meta *jetstream.MsgMetadata
}

// Next takes a report; nil when none came within some seconds.
func (r *Reports) Next() (*Report, error) {
	batch, err := r.consumer.Fetch(1, jetstream.FetchMaxWait(reportWait))
	if err != nil {
		return nil, fmt.Errorf("take a report: %w", err)
	}
	m, came := <-batch.Messages()
	if !came {
		if err := batch.Error(); err != nil {
			return nil, fmt.Errorf("take a report: %w", err)
		}
		return nil, nil //nolint:nilnil // none came, which is no error
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("take a report: %w", err)
	}
	return &Report{m, meta}, nil
}

// Body is the report as it was stored.
func (r *Report) Body() []byte { return r.raw.Data() }

// StoredAt is when it was stored, by the server's clock.
func (r *Report) StoredAt() time.Time { return r.meta.Timestamp }

// Tries is how often it was taken, this time included.
func (r *Report) Tries() int { return int(min(r.meta.NumDelivered, 1<<30)) }

// Ack ends the report; it stays in the stream.
func (r *Report) Ack() error { return r.raw.Ack() }

// Again hands it back, to be taken again after delay.
func (r *Report) Again(delay time.Duration) error { return r.raw.NakWithDelay(delay) }

// Alive keeps others from taking it.
func (r *Report) Alive() error { return r.raw.InProgress() }
