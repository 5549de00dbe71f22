package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
)

// stripeFacts are what one request for the meters came to.
type stripeFacts struct {
	noKey     bool
	permitErr error // no permit was to be had: nothing was sent
	err       error // no whole answer
	reading   sender.Reading
	clock     *clockReading
}

// metersPath lists a hundred active meters, the most that one answer holds.
const metersPath = "/v1/billing/meters?status=active&limit=100"

// askStripe sends one request. Without NATS no worker sends anything, so that no permit is
// needed.
func askStripe(ctx context.Context, conn *client, cfg Config) (s stripeFacts) {
	if cfg.Key.Reveal() == "" {
		return stripeFacts{noKey: true}
	}
	stripe, err := sender.New(sender.Config{
		BaseURL: cfg.APIBase, Version: cfg.Version, Timeout: cfg.AttemptTimeout,
		Key: cfg.Key.Reveal, Live: func() bool { return cfg.Live },
	})
	if err != nil {
		return stripeFacts{err: err}
	}
	defer stripe.Close()
	send := func(ctx context.Context) {
		began := time.Now()
		if s.reading, s.err = stripe.Read(ctx, metersPath); s.err == nil && !s.reading.Date.IsZero() {
			s.clock = &clockReading{began, time.Now(), s.reading.Date}
		}
	}
	if conn == nil {
		send(ctx)
		return s
	}
	if s.permitErr = conn.withPermit(ctx, send); s.permitErr != nil {
		s.err = nil
	}
	return s
}

// withPermit takes a permit out of the account's bucket, as the workers do, and sends with it.
// The rate that they are configured with stays theirs: whatever this machine has set, a
// look must not slow them down.
func (c *client) withPermit(ctx context.Context, send func(context.Context)) error {
	var permit *ratelimit.Permit
	life, end := context.WithCancel(ctx)
	defer end()
	err := c.ask(ctx, func(ctx context.Context) error {
		kv, err := c.js.KeyValue(ctx, outbox.ControlBucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil // no worker has run, so none sends
		}
		if err != nil {
			return fmt.Errorf("key-value bucket %s: %w", outbox.ControlBucket, err)
		}
		now, known, err := ratelimit.LookAt(ctx, kv)
		if err != nil || !known {
			return err // names the bucket
		}
		bucket := ratelimit.NewBucket(ratelimit.Config{
			Lessor: ratelimit.NewShared(ratelimit.SharedConfig{
				Rate: now.Configured, Trouble: func(error) {},
				Open: func(context.Context) (jetstream.KeyValue, error) { return kv, nil },
			}),
			Granted: func(time.Duration, float64) {},
		})
		go bucket.Run(life)
		permit, err = bucket.Take(ctx)
		return err
	})
	if err != nil {
		return err
	}
	send(ctx)
	if permit != nil {
		permit.Done()
	}
	return nil
}

// checkStripe tells an unreachable Stripe from a refused key.
func checkStripe(k facts) []finding {
	const check = "stripe"
	s, mode := k.stripe, cmpMode(k.cfg)
	const way = "look at status.stripe.com, and at DNS, proxy and firewall on the way to it"
	switch status := s.reading.Status; {
	case s.noKey:
		return []finding{fine(check, "not asked: there is no key").warn("set STRIPE_API_KEY_FILE (or STRIPE_API_KEY), as for the worker")}
	case s.permitErr != nil && isDenial(s.permitErr):
		f := denialFinding(check, s.permitErr)
		f.Detail = "not asked, for want of a permit: the shared bucket " + f.Detail
		return []finding{f}
	case s.permitErr != nil:
		return []finding{fine(check, "not asked: no permit within %s: %v", askTimeout, s.permitErr).warn("see `meterworker status`: Stripe may have asked to wait, or the workers use the whole rate")}
	case s.err != nil:
		return []finding{fine(check, "cannot be reached: %v", redact(s.err.Error())).problem(way)}
	case status == http.StatusOK:
		return []finding{fine(check, "answers; the key is taken, in %s mode", mode)}
	case status == http.StatusUnauthorized:
		return []finding{fine(check, "refuses the key (401): %s", s.said()).problem("put a valid key into the key file (STRIPE_API_KEY_FILE); the workers see it by themselves")}
	case status == http.StatusForbidden:
		return []finding{fine(check, "answers; the key may not list meters (403): %s", s.said()).
			warn("give the restricted key read on billing meters; sending usage needs write on billing meter events, which this does not show")}
	case status == http.StatusTooManyRequests:
		return []finding{fine(check, "answers 429: %s", s.said()).warn("wait; see `meterworker status` for the rate")}
	case status >= http.StatusInternalServerError:
		return []finding{fine(check, "is in trouble: it answers %d", status).problem(way)}
	default:
		return []finding{fine(check, "what answers is not Stripe as we know it: %d %s", status, s.said()).problem("check STRIPE_API_BASE, STRIPE_VERSION and the proxy")}
	}
}

func cmpMode(c Config) string {
	if c.Live {
		return modeLive
	}
	return modeTest
}

// said is Stripe's message, as far as it is one.
func (s stripeFacts) said() string {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(s.reading.Body, &body) != nil || body.Error.Message == "" {
		return "without a message"
	}
	return redact(shorten(strings.TrimSpace(body.Error.Code + " " + body.Error.Message)))
}

// meter is what we read of one.
type meter struct {
	EventName string `json:"event_name"`
	Livemode  bool   `json:"livemode"`
	Customer  struct {
		Key string `json:"event_payload_key"`
	} `json:"customer_mapping"`
	Value struct {
		Key string `json:"event_payload_key"`
	} `json:"value_settings"`
}

// checkMeters holds the meters against what our events carry.
func checkMeters(k facts) []finding {
	const check = "stripe.meters"
	if k.stripe.reading.Status != http.StatusOK {
		return nil
	}
	var list struct {
		Object  string  `json:"object"`
		Data    []meter `json:"data"`
		HasMore bool    `json:"has_more"`
	}
	if err := json.Unmarshal(k.stripe.reading.Body, &list); err != nil || list.Object != "list" {
		return []finding{fine(check, "what answers is not Stripe's list of meters").problem("check STRIPE_API_BASE and the proxy")}
	}
	if len(list.Data) == 0 {
		return []finding{fine(check, "no active meter in %s mode: Stripe refuses every event", cmpMode(k.cfg)).problem("create the meters in Stripe, or give the key of the account that has them")}
	}
	var names []string
	var found []finding
	for _, m := range list.Data {
		names = append(names, m.EventName)
		found = append(found, m.judge(check, k.cfg.Live)...)
	}
	slices.Sort(names)
	more := ""
	if list.HasMore {
		more = " and more"
	}
	return append(found, fine(check, "%d active: %s%s", len(names), strings.Join(names, ", "), more))
}

// judge compares one meter with the payload that package usage demands.
func (m meter) judge(check string, live bool) []finding {
	var found []finding
	if m.Livemode != live {
		found = append(found, fine(check, "meter %s is of the other mode", m.EventName).problem("check STRIPE_API_BASE and the key"))
	}
	if key := m.Customer.Key; key != "" && key != "stripe_customer_id" {
		found = append(found, fine(check, "meter %s takes the customer from %q, and our events carry stripe_customer_id", m.EventName, key).
			problem("make a meter with the customer mapping stripe_customer_id"))
	}
	if key := m.Value.Key; key != "" && key != "value" {
		found = append(found, fine(check, "meter %s takes the value from %q, and our events carry value", m.EventName, key).
			problem("make a meter with the value key \"value\""))
	}
	return found
}

func checkStripeClock(k facts) []finding {
	if k.stripe.clock == nil {
		return nil
	}
	return []finding{clockFinding("stripe.clock", "Stripe's", *k.stripe.clock)}
}
