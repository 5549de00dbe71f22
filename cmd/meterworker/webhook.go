package main

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
	"github.com/meterworker/meterworker/internal/webhook"
)

// webhookLabels are the closed lists of the webhook metrics.
func webhookLabels() (results, codes []string) {
	for _, r := range webhook.Results() {
		results = append(results, string(r))
	}
	return results, webhook.Codes()
}

// openWebhooks receives and works off what Stripe reports later, where there is a secret
// to verify it with. It works until stop ends and listens until close is called.
func (d *daemon) openWebhooks(stop, life context.Context, streams *outbox.Streams, v1 *sender.V1, bucket *ratelimit.Bucket) (closing func(), err error) {
	if d.cfg.WebhookSecretFile == "" && d.cfg.WebhookSecret == "" {
		return func() {}, nil
	}
	life, end := context.WithCancel(life)
	secrets, err := d.webhookSecrets(life)
	if err != nil {
		end()
		return nil, &setupError{err}
	}
	var reports *outbox.Reports
	err = d.persist(stop, func(ctx context.Context) (err error) {
		reports, err = streams.Reports(ctx)
		return err
	})
	if err != nil {
		end()
		return nil, err
	}
	counts := webhookCounts{d}
	receiver := webhook.NewReceiver(webhook.ReceiverConfig{
		Secrets: secrets, Live: d.cfg.Live, Store: reports, Count: counts.request, Log: d.log,
	})
	server, err := webhook.Serve(life, d.cfg.WebhookAddr, receiver, d.log)
	if err != nil {
		end()
		return nil, err // names the address and the remedy
	}
	d.mu.Lock()
	d.hooks = server.Addr()
	d.mu.Unlock()
	d.log.Info("receiving webhooks", zap.String("address", server.Addr()), zap.String("path", webhook.Path))
	worker := webhook.NewWorker(webhook.WorkerConfig{Live: d.cfg.Live, Epoch: streams.Epoch()}, webhook.Parts{
		Inbox: inbox{reports}, Stripe: readings{v1}, Permits: webhookPermits{bucket}, Outbox: kept{streams},
		History: journal.NewHistory(streams.JetStream()), Letters: streams.DeadLetters(), Counts: counts, Log: d.log,
	})
	working, ended := context.WithCancel(stop)
	done := make(chan struct{})
	go func() { defer close(done); worker.Run(working) }()
	return func() {
		ended()
		end()
		server.Wait()
		<-done
	}, nil
}

// receives is the address of the webhook endpoint, "" while it is not open.
func (d *daemon) receives() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hooks
}

// webhookSecrets is the source of the secrets in force: a watched file, or the environment.
func (d *daemon) webhookSecrets(life context.Context) (func() []string, error) {
	if d.cfg.WebhookSecretFile == "" {
		secrets, err := webhook.ParseSecrets(string(d.cfg.WebhookSecret))
		if err != nil {
			return nil, fmt.Errorf("STRIPE_WEBHOOK_SECRET: %w", err)
		}
		return func() []string { return secrets }, nil
	}
	file, err := webhook.NewSecretFile(d.cfg.WebhookSecretFile)
	if err != nil {
		return nil, fmt.Errorf("STRIPE_WEBHOOK_SECRET_FILE: %w", err)
	}
	go file.Run(life, func() {
		d.log.Info("the webhook secrets have changed", zap.Int("secrets", len(file.Current())))
	}, func(err error) { d.log.Warn("the new webhook secrets are not used", zap.Error(err)) })
	return file.Current, nil
}

// webhookCounts are the metrics as package webhook wants them.
type webhookCounts struct{ d *daemon }

func (c webhookCounts) request(r webhook.Result) {
	c.d.metrics.Webhooks.WithLabelValues(string(r)).Inc()
}

// Letter implements webhook.Counts.
func (c webhookCounts) Letter(reason string) { c.d.metrics.DeadLetters.WithLabelValues(reason).Inc() }

// Rejected implements webhook.Counts.
func (c webhookCounts) Rejected(code string, n int) {
	c.d.metrics.Rejected(code, webhook.Known(code), n)
}

// Unnamed implements webhook.Counts.
func (c webhookCounts) Unnamed(eventName string, n int) { c.d.metrics.Unnamed(eventName, n) }

// inbox lets package webhook take reports without knowing the outbox.
type inbox struct{ *outbox.Reports }

// Next implements webhook.Inbox.
func (i inbox) Next() (webhook.Item, error) {
	report, err := i.Reports.Next()
	if report == nil || err != nil {
		return nil, err // names what was done
	}
	return report, nil
}

// kept lets package webhook read messages without knowing the outbox.
type kept struct{ streams *outbox.Streams }

// Message implements webhook.Outbox.
func (k kept) Message(ctx context.Context, sequence uint64) (webhook.Message, bool, error) {
	m, found, err := k.streams.Kept(ctx, sequence)
	return webhook.Message{
		Subject: m.Subject, Sequence: m.Sequence, Partition: m.Partition, StoredAt: m.StoredAt, Body: m.Body, Header: m.Header,
	}, found, err
}

// readings lets package webhook ask Stripe without knowing the sender.
type readings struct{ v1 *sender.V1 }

// Read implements webhook.Stripe.
func (r readings) Read(ctx context.Context, path string) (webhook.Answer, error) {
	reading, err := r.v1.Read(ctx, path)
	return webhook.Answer{
		Status: reading.Status, Body: reading.Body, Throttled: reading.Throttled, RetryAfter: reading.RetryAfter,
	}, err // names the path
}

// webhookPermits lets package webhook take permits without knowing the bucket.
type webhookPermits struct{ *ratelimit.Bucket }

// Take implements webhook.Permits.
func (p webhookPermits) Take(ctx context.Context) (webhook.Permit, error) { return p.Bucket.Take(ctx) } // names what was waited for
