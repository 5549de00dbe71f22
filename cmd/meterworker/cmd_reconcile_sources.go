package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/reconcile"
	"github.com/meterworker/meterworker/internal/replay"
	"github.com/meterworker/meterworker/internal/sender"
	"github.com/meterworker/meterworker/usage"
)

// reconciling is what one comparison holds open.
type reconciling struct {
	letters  *replay.Letters
	progress *progress
	received bool // webhooks are received, so that rejections can have been named
	close    func()
}

// prepare opens both sides.
func (c *ReconcileCmd) prepare(ctx context.Context, p *process, conn *client, cfg Config, period reconcile.Period) (*reconcile.Run, *reconciling, error) {
	streams, err := openOutbox(ctx, conn, cfg)
	if err != nil {
		return nil, nil, err
	}
	work := &reconciling{progress: newProgress(p)}
	if work.letters, err = replay.Open(ctx, conn.js); err != nil {
		return nil, nil, err // names the stream
	}
	from := period.Since.Add(-reconcile.Early)
	declared, err := declaredSince(ctx, conn, streams, from)
	if err != nil {
		return nil, nil, err
	}
	unnamed, received, err := unnamedSince(ctx, streams, from)
	if err != nil {
		return nil, nil, err
	}
	work.received = received
	questions, closing, err := c.questions(ctx, conn, cfg)
	if err != nil {
		return nil, nil, err
	}
	work.close = closing
	run := &reconcile.Run{
		Past: &reconcile.Past{
			Outbox: retained{streams}, History: journal.NewHistory(conn.js).As("reconcile"), Epoch: streams.Epoch(), Period: period,
			EventName: text(c.EventName), Customer: text(c.Customer), Settle: c.Settle, Declared: declared,
		},
		Stripe: questions, Letters: graveyard{work.letters}, Unnamed: unnamed, LookEvery: c.LookEvery, Wait: 2 * c.Settle,
		Progress: func(step string, done, all int) {
			work.progress.show(func() string {
				if all == 0 {
					return step
				}
				return fmt.Sprintf("%s: %d of %d", step, done, all)
			})
		},
	}
	if c.Wait != nil {
		run.Wait = *c.Wait
	}
	if c.Customer != nil {
		run.Customers = []string{*c.Customer}
	}
	return run, work, nil
}

// retained lets package reconcile read messages without knowing the outbox.
type retained struct{ *outbox.Streams }

// Messages implements reconcile.Outbox.
func (r retained) Messages(ctx context.Context, from time.Time, eventName, customer string, each func(reconcile.Message) error) error {
	f := outbox.PastFilter{From: from}
	if eventName != "" {
		f.EventName = usage.EncodeToken(eventName)
	}
	if customer != "" {
		f.Customer = usage.EncodeToken(customer)
	}
	return r.Past(ctx, f, func(k outbox.Kept) error {
		return each(reconcile.Message{Subject: k.Subject, Header: k.Header, Body: k.Body, Sequence: k.Sequence, Partition: k.Partition, StoredAt: k.StoredAt})
	})
}

// graveyard lets package reconcile read dead letters without knowing where they lie.
type graveyard struct{ *replay.Letters }

// Each implements reconcile.Letters.
func (g graveyard) Each(ctx context.Context, eventName, customer string, visit func(reconcile.Letter) error) error {
	return g.Letters.Each(ctx, replay.Filter{EventName: eventName, Customer: customer}, func(l replay.Letter) error {
		return visit(reconcile.Letter{
			Letter: l.Letter, ID: l.ID, EventName: l.EventName(), Customer: l.Customer(), Value: l.Value(), MayBeCounted: l.MayBeCounted(),
		})
	})
}

// countedMark begins the detail of a discard by which a letter was found counted.
const countedMark = "counted at Stripe"

// declaredSince is what people have said of messages since: replays of what was rejected later,
// and the audit trail.
func declaredSince(ctx context.Context, conn *client, streams *outbox.Streams, from time.Time) (reconcile.Declared, error) {
	d := reconcile.Declared{Uncounted: map[uint64]bool{}, Counted: map[uint64]bool{}}
	err := streams.Past(ctx, outbox.PastFilter{From: from, ReplaysOnly: true}, func(k outbox.Kept) error {
		_, letter, _ := strings.Cut(k.Header(deadletter.HeaderReplayOf), " ")
		if sequence, ok := replay.RejectedLater(letter, streams.Epoch()); ok {
			d.Uncounted[sequence] = true
		}
		return nil
	})
	if err != nil {
		return d, err
	}
	trail, err := audit.Open(ctx, conn.js)
	if err != nil {
		return d, err
	}
	discarded := map[uint64]audit.Letter{} // by id, of the intents
	err = trail.Each(ctx, audit.Filter{Actions: []audit.Action{audit.Discard}, Since: from}, false, func(r audit.Record) error {
		for _, l := range r.Letters {
			if r.Stage == audit.Intent {
				discarded[l.ID] = l
				continue
			}
			sequence := discarded[l.ID].Sequence
			switch done := l.Outcome == string(replay.Discarded); {
			case done && discarded[l.ID].Reason == string(deadletter.RejectedLater):
				d.Uncounted[sequence] = true
			case done && strings.HasPrefix(l.Detail, countedMark):
				d.Counted[sequence] = true
			}
		}
		return nil
	})
	return d, err
}

// unnamedSince counts, by event name, the rejections that Stripe reported and nobody could name.
func unnamedSince(ctx context.Context, streams *outbox.Streams, from time.Time) (unnamed map[string]int, received bool, err error) {
	unnamed = map[string]int{}
	received, err = streams.Finished(ctx, from, func(data []byte) error {
		var result struct {
			EventName string `json:"event_name"`
			Unnamed   int    `json:"unnamed"`
			State     string `json:"state"`
		}
		if err := json.Unmarshal(data, &result); err != nil || result.State != "joined" {
			unnamed[""]++ // what could not be read may be about anything
			return nil    //nolint:nilerr // that is what it counts
		}
		if result.Unnamed > 0 {
			unnamed[result.EventName] += result.Unnamed
		}
		return nil
	})
	return unnamed, received, err
}

// permitWithin bounds the wait for one permit.
const permitWithin = time.Minute

// questions asks Stripe as a worker would: with its key, and a permit for each request.
func (c *ReconcileCmd) questions(ctx context.Context, conn *client, cfg Config) (*reconcile.Stripe, func(), error) {
	stripe, err := sender.New(sender.Config{
		BaseURL: cfg.APIBase, Version: cfg.Version, Timeout: cfg.AttemptTimeout,
		Key: cfg.Key.Reveal, Live: func() bool { return cfg.Live },
	})
	if err != nil {
		return nil, nil, err
	}
	bucket, life, err := conn.bucket(ctx)
	if err != nil {
		stripe.Close()
		return nil, nil, err
	}
	rate := newReadPace(c.ReadRate)
	read := func(ctx context.Context, path string) (reconcile.Answer, error) {
		if err := rate.wait(ctx); err != nil {
			return reconcile.Answer{}, fmt.Errorf("%w: %w", reconcile.ErrStop, err)
		}
		permit, err := takePermit(ctx, bucket)
		if err != nil {
			return reconcile.Answer{}, fmt.Errorf("%w: %w", reconcile.ErrStop, err)
		}
		defer permit.Done()
		reading, err := stripe.Read(ctx, path)
		if reading.Throttled && bucket != nil {
			bucket.Throttled(reading.RetryAfter)
		}
		return reconcile.Answer{Status: reading.Status, Body: reading.Body, RetryAfter: reading.RetryAfter}, err // names the path
	}
	return &reconcile.Stripe{Read: read}, func() { life(); stripe.Close() }, nil
}

// heldPermit is a permit, or none where none is needed.
type heldPermit struct{ *ratelimit.Permit }

// Done gives it back.
func (h heldPermit) Done() {
	if h.Permit != nil {
		h.Permit.Done()
	}
}

func takePermit(ctx context.Context, bucket *ratelimit.Bucket) (heldPermit, error) {
	if bucket == nil {
		return heldPermit{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, permitWithin)
	defer cancel()
	permit, err := bucket.Take(ctx)
	if err == nil {
		if err = permit.Spend(ctx); err != nil {
			permit.Done()
		}
	}
	if err != nil {
		return heldPermit{}, fmt.Errorf("no permit within %s: %w; see `meterworker status`: Stripe may have asked to wait, or the workers use the whole rate", permitWithin, err)
	}
	return heldPermit{permit}, nil
}

// newReadPace spreads requests over time.
func newReadPace(perSecond float64) *pace {
	return &pace{every: time.Duration(float64(time.Second) / perSecond), began: time.Now()}
}

// bucket is the account's, as the workers share it; nil where no worker has sent anything. The
// rate that they are configured with stays theirs.
func (c *client) bucket(ctx context.Context) (bucket *ratelimit.Bucket, end func(), err error) {
	life, end := context.WithCancel(ctx)
	err = c.ask(ctx, func(ctx context.Context) error {
		kv, err := c.js.KeyValue(ctx, outbox.ControlBucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("key-value bucket %s: %w", outbox.ControlBucket, err)
		}
		now, known, err := ratelimit.LookAt(ctx, kv)
		if err != nil || !known {
			return err // names the bucket
		}
		bucket = ratelimit.NewBucket(ratelimit.Config{
			Lessor: ratelimit.NewShared(ratelimit.SharedConfig{
				Rate: now.Configured, Trouble: func(error) {},
				Open: func(context.Context) (jetstream.KeyValue, error) { return kv, nil },
			}),
			Granted: func(time.Duration, float64) {},
		})
		go bucket.Run(life)
		return nil
	})
	if err = cmp.Or(c.refusal(), err); err != nil {
		end()
		return nil, nil, err
	}
	return bucket, end, nil
}
