package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

// natsFacts are of the server.
type natsFacts struct {
	err     error // it cannot be reached
	version string
	id      string
	cluster string
	account *jetstream.AccountInfo
	jsErr   error
	monitor *varz
	monErr  error // the monitoring address does not answer
	asked   bool  // a monitoring address was given
	clock   *clockReading
}

// outboxFacts are of the streams.
type outboxFacts struct {
	openErr error // what the worker would refuse, or why that is not known
	infos   map[string]*jetstream.StreamInfo
	lookErr error // of control
}

// askTimeout bounds one group of questions. A denied one ends at once.
const askTimeout = 15 * time.Second

// ask has the connection make a few calls. A denial, which the server tells to no call, ends
// them at once and is the error.
func (c *client) ask(ctx context.Context, calls func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c.mu.Lock()
	c.refused, c.abandon = nil, cancel
	c.mu.Unlock()
	err := calls(ctx)
	return cmp.Or(c.refusal(), err)
}

// gatherFacts asks NATS, then Stripe; each part on its own, so that what fails hides nothing else.
func gatherFacts(ctx context.Context, p *process, flags *DoctorCmd, cfg Config) facts {
	known := facts{cfg: cfg}
	conn, err := dialClient(p, flags, roleOperator)
	if err != nil {
		known.nats.err = err
		known.stripe = askStripe(ctx, nil, cfg)
		return known
	}
	defer conn.close()
	known.nats = conn.askServer(ctx, flags.NATSMonitor)
	if known.nats.jsErr == nil {
		known.outbox, known.control = conn.askOutbox(ctx, cfg)
		known.probes = conn.askPermissions(ctx)
	}
	known.stripe = askStripe(ctx, conn, cfg)
	return known
}

func (c *client) askServer(ctx context.Context, monitor string) natsFacts {
	n := natsFacts{version: c.conn.ConnectedServerVersion(), id: c.conn.ConnectedServerId(), cluster: c.conn.ConnectedClusterName(), asked: monitor != ""}
	n.jsErr = c.ask(ctx, func(ctx context.Context) (err error) {
		n.account, err = c.js.AccountInfo(ctx)
		return err
	})
	if n.asked {
		n.monitor, n.monErr = readVarz(ctx, monitor)
	}
	began := time.Now()
	_ = c.ask(ctx, func(ctx context.Context) error { // without it the clock is not known
		stream, err := c.js.Stream(ctx, outbox.UsageStream)
		if err == nil {
			n.clock = &clockReading{began, time.Now(), stream.CachedInfo().TimeStamp}
		}
		return err
	})
	return n
}

func (c *client) askOutbox(ctx context.Context, cfg Config) (o outboxFacts, seen look) {
	o.openErr = c.ask(ctx, func(ctx context.Context) error {
		_, err := outbox.Open(ctx, c.js, outbox.Settings{Mode: cfg.Mode, Partitions: cfg.Partitions, Replicas: cfg.StreamReplicas, AckWait: cfg.AckWait})
		return err
	})
	o.infos = map[string]*jetstream.StreamInfo{}
	for _, name := range []string{outbox.UsageStream, outbox.JournalStream, outbox.DLQStream} {
		_ = c.ask(ctx, func(ctx context.Context) error { // its absence is in openErr
			stream, err := c.js.Stream(ctx, name)
			if err == nil {
				o.infos[name] = stream.CachedInfo()
			}
			return err
		})
	}
	o.lookErr = c.ask(ctx, func(ctx context.Context) error { return c.settled(ctx, &seen) })
	return o, seen
}

// settled looks around, and once more where a partition has no owner: it may be changing
// hands, which takes a beat or two.
func (c *client) settled(ctx context.Context, seen *look) error {
	now, err := lookAround(ctx, c.js)
	if err == nil && len(now.Unowned()) > 0 && len(now.Live()) > 0 {
		if err = waitFor(ctx, 2*outbox.BeatEvery); err == nil {
			now, err = lookAround(ctx, c.js)
		}
	}
	if err == nil {
		*seen = *now
	}
	return err
}

// varz is what we read of the server's monitoring page. Its duration is in nanoseconds.
type varz struct {
	ServerID  string `json:"server_id"`
	JetStream struct {
		Config *struct {
			MaxStorage   int64         `json:"max_storage"`
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
		Stats *struct {
			Storage uint64 `json:"storage"`
		} `json:"stats"`
	} `json:"jetstream"`
}

// longestVarz in bytes: the page has some 10 KiB, and more with many accounts.
const longestVarz = 4 << 20

func readVarz(ctx context.Context, monitor string) (*varz, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", http.NoBody)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var page varz
	switch err = json.NewDecoder(io.LimitReader(response.Body, longestVarz)).Decode(&page); {
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %d", monitor, response.StatusCode)
	case err != nil || page.ServerID == "":
		return nil, fmt.Errorf("%s is not the monitoring address of a NATS server", monitor)
	}
	return &page, nil
}

// probe is one permission of the operator's, tried.
type probe struct {
	what    string // what it is for
	subject string
	err     error // nil: allowed
}

// probes are permissions that no other question needs. What is published cannot be stored or
// done: it asks for another stream, or is no JSON. So any answer shows that it was let in.
var probes = []struct {
	what, subject string
	stored        bool // the subject is a stream's, else a call of the API
}{
	{"replay dead letters", "usage.replay.doctor.doctor", true},
	{"take out dead letters", "$JS.API.STREAM.MSG.DELETE." + outbox.DLQStream, false},
	{"read dead letters", "$JS.API.CONSUMER.CREATE." + outbox.DLQStream + ".doctor", false},
	{"pause and resume", "$KV." + outbox.DurableBucket + ".orders", true},
	{"accept-restored", "$KV." + outbox.DurableBucket + ".continuity", true},
}

func (c *client) askPermissions(ctx context.Context) []probe {
	var tried []probe
	for _, one := range probes {
		err := c.ask(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			m := &nats.Msg{Subject: one.subject, Data: []byte("{"), Header: nats.Header{}}
			if one.stored {
				m.Header.Set(jetstream.ExpectedStreamHeader, "none")
			}
			_, err := c.conn.RequestMsgWithContext(ctx, m)
			if errors.Is(err, nats.ErrNoResponders) {
				return nil // it was let in; there is no such stream, which others say
			}
			return err
		})
		tried = append(tried, probe{one.what, one.subject, err})
	}
	return tried
}
