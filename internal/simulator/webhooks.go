package simulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// webhookPeriod is how long Stripe tries to deliver a notification.
	webhookPeriod = 3 * 24 * time.Hour

	leastWebhookPause = 500 * time.Millisecond // Stripe's is longer: minutes, then hours
	mostWebhookPause  = time.Minute
	webhookTimeout    = 10 * time.Second
	webhookLook       = 100 * time.Millisecond // between two looks for reports that are out
)

// Endpoint is where notifications are delivered.
type Endpoint struct {
	URL string
	// Secrets sign each notification; two are in force during a rotation.
	Secrets []string
	// Once delivers what was taken once only; else each is delivered twice, as Stripe may.
	Once bool
}

// Notify delivers the notifications of reports as Stripe does, until ctx ends: in no order,
// signed, each until it is answered with 2xx or three days have passed by the simulator's
// clock.
func (s *Simulator) Notify(ctx context.Context, to Endpoint) {
	n := notifier{simulator: s, to: to, random: newRandom(s.cfg.Seed, 2), begun: map[string]bool{}}
	n.client = &http.Client{
		Transport: &http.Transport{}, Timeout: webhookTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer n.client.CloseIdleConnections()
	defer n.deliveries.Wait()
	ticker := time.NewTicker(webhookLook)
	defer ticker.Stop()
	for {
		n.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

type notifier struct {
	simulator  *Simulator
	to         Endpoint
	client     *http.Client
	random     *rand.Rand
	begun      map[string]bool // by the report's id
	deliveries sync.WaitGroup
}

// look begins the delivery of what has come out since, in any order.
func (n *notifier) look(ctx context.Context) {
	reports := n.simulator.ErrorReports()
	n.random.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	for _, r := range reports {
		if n.begun[r.ID] {
			continue
		}
		n.begun[r.ID] = true
		n.deliveries.Go(func() { n.deliver(ctx, r) })
	}
}

// deliver tries until the endpoint takes it, and once more for good measure.
func (n *notifier) deliver(ctx context.Context, r ErrorReport) {
	times := 2
	if n.to.Once {
		times = 1
	}
	wait := leastWebhookPause
	for taken := 0; taken < times; {
		if n.try(ctx, r) {
			taken++
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, mostWebhookPause)
		if n.simulator.Now().Sub(r.Created) > webhookPeriod {
			return
		}
	}
}

// try delivers once; each try is signed anew.
func (n *notifier) try(ctx context.Context, r ErrorReport) bool {
	body, err := json.Marshal(r)
	if err != nil {
		return false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.to.URL, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	request.Header.Set("Stripe-Signature", SignWebhook(n.to.Secrets, n.simulator.Now(), body))
	response, err := n.client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)) // so that the connection is used again
	return response.StatusCode/100 == 2
}

// SignWebhook is the Stripe-Signature header of a body: one v1 for each secret, and a v0, which
// is of no worth.
func SignWebhook(secrets []string, at time.Time, body []byte) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	var header strings.Builder
	header.WriteString("t=" + stamp)
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = fmt.Fprintf(mac, "%s.%s", stamp, body) // a hash takes everything
		header.WriteString(",v1=" + hex.EncodeToString(mac.Sum(nil)))
	}
	return header.String() + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
}
