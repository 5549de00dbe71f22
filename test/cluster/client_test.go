package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// client is a connection of the test's own.
type client struct {
	t  testing.TB
	js jetstream.JetStream
}

func dial(t testing.TB, url string) *client {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true), nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, js}
}

func (c *client) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 3*time.Second)
}

// info is what the cluster says of a stream; nil while it does not.
func (c *client) info(stream string, opts ...jetstream.StreamInfoOpt) *jetstream.StreamInfo {
	ctx, cancel := c.call()
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil
	}
	info, err := s.Info(ctx, opts...)
	if err != nil {
		return nil
	}
	return info
}

// leader is the name of the server that leads a stream, "" while none does.
func (c *client) leader(stream string) string {
	info := c.info(stream)
	if info == nil || info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// consumers are the names of the workers' consumers.
func (c *client) consumers() []string {
	ctx, cancel := c.call()
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE")
	if err != nil {
		return nil
	}
	var names []string
	for name := range stream.ConsumerNames(ctx).Name() {
		if strings.HasPrefix(name, "worker-") {
			names = append(names, name)
		}
	}
	return names
}

// stepDown makes the leader of a stream ("<stream>") or consumer ("<stream>.<consumer>")
// hand over; it reports whether it did.
func (c *client) stepDown(group string) bool {
	kind := "STREAM"
	if strings.Contains(group, ".") {
		kind = "CONSUMER"
	}
	ctx, cancel := c.call()
	defer cancel()
	reply, err := c.js.Conn().RequestWithContext(ctx, "$JS.API."+kind+".LEADER.STEPDOWN."+group, nil)
	if err != nil {
		return false
	}
	var answer struct {
		Success bool `json:"success"`
	}
	return json.Unmarshal(reply.Data, &answer) == nil && answer.Success
}

// settled reports whether every stored message is acked.
func (c *client) settled() bool {
	ctx, cancel := c.call()
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE")
	if err != nil {
		return false
	}
	consumers, seen := stream.ListConsumers(ctx), 0
	for info := range consumers.Info() {
		if !strings.HasPrefix(info.Name, "worker-") {
			continue
		}
		seen++
		if info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return seen > 0 && consumers.Err() == nil
}

// letters is the number of dead letters.
func (c *client) letters() uint64 {
	c.t.Helper()
	var info *jetstream.StreamInfo
	until(c.t, "the dead letters to be counted", func() bool {
		info = c.info("USAGE_DLQ")
		return info != nil
	})
	return info.State.Msgs
}

// markers is how many owner markers each partition has: one for each time it was taken.
func (c *client) markers() map[int]uint64 {
	c.t.Helper()
	var info *jetstream.StreamInfo
	until(c.t, "the owner markers to be counted", func() bool {
		info = c.info("USAGE_JOURNAL", jetstream.WithSubjectFilter("usage.journal.*.owner"))
		return info != nil
	})
	all := map[int]uint64{}
	for subject, n := range info.State.Subjects {
		p, err := strconv.Atoi(strings.Split(subject, ".")[2])
		if err != nil {
			c.t.Fatalf("subject %s", subject)
		}
		all[p] = n
	}
	return all
}

// entry reads a key into value; false while it is not there.
func (c *client) entry(bucket, key string, value any) bool {
	ctx, cancel := c.call()
	defer cancel()
	kv, err := c.js.KeyValue(ctx, bucket)
	if err != nil {
		return false
	}
	entry, err := kv.Get(ctx, key)
	return err == nil && json.Unmarshal(entry.Value(), value) == nil
}

// halts are the streams that a worker has taken for another or an old one.
func (c *client) halts() []string {
	c.t.Helper()
	var chronicle struct {
		Halts map[string]json.RawMessage `json:"halts"`
	}
	until(c.t, "the marks to be read", func() bool { return c.entry("usage_control_durable", "continuity", &chronicle) })
	var streams []string
	for stream, halt := range chronicle.Halts {
		streams = append(streams, fmt.Sprintf("%s %s", stream, halt))
	}
	return streams
}

// owners are the partitions of each live worker, by its name, as it says itself.
func (c *client) owners() map[string][]int {
	var members map[string]struct {
		Owns []int `json:"owns"`
	}
	if !c.entry("usage_control", "members", &members) {
		return nil
	}
	owners := map[string][]int{}
	for name, m := range members {
		owners[name] = m.Owns
	}
	return owners
}

// partitionOf is where a stored message lies: its subject says so.
func (c *client) partitionOf(sequence uint64) (int, error) {
	ctx, cancel := c.call()
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE")
	if err != nil {
		return 0, err
	}
	m, err := stream.GetMsg(ctx, sequence)
	if err != nil {
		return 0, err
	}
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) < 3 {
		return 0, errors.New("subject " + m.Subject)
	}
	return strconv.Atoi(tokens[2])
}

// get asks over HTTP; status 0 while nobody answers.
func get(url string) (status int, body string) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, ""
	}
	response, err := web.Do(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(data)
}
