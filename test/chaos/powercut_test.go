//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/usage"
)

// powered is one configuration of a server whose power is cut.
type powered struct {
	name  string
	start func(t testing.TB, folder string) (p *process, addr string)
	safe  bool // no acknowledged message may be lost
}

var servers = []powered{
	{"nats-server, sync always", standalone(syncAlways), true},
	{"embedded server", embeddedServer, true},
	{"nats-server, its defaults", standalone(syncDefault), false},
}

func standalone(sync string) func(testing.TB, string) (*process, string) {
	return func(t testing.TB, folder string) (*process, string) {
		b := newBroker(t, filepath.Join(folder, "store"), sync)
		return b.process, b.addr
	}
}

// embeddedServer runs the embedded server in a process of its own: see play.
func embeddedServer(t testing.TB, folder string) (*process, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, "embedded server", []string{"GOMAXPROCS=8", roleVariable + "=" + filepath.Join(folder, "store")}, self)
	const announced = "listening on nats://"
	until(t, "the embedded server", func() bool { return p.ended() || p.said(announced) && strings.Contains(p.log.String(), "\n") })
	_, addr, ok := strings.Cut(p.log.String(), announced)
	if !ok {
		t.Fatalf("the embedded server does not start: %s", p.log)
	}
	return p, strings.TrimSpace(strings.Split(addr, "\n")[0])
}

// powerLoss is what the cuts of one configuration came to.
type powerLoss struct {
	Server       string `json:"server"`
	Cuts         int    `json:"cuts"`
	Acknowledged int    `json:"acknowledged"`
	Lost         int    `json:"lost"`
	Damaged      int    `json:"damaged"` // there, with another body
	PerCut       []cut  `json:"per_cut"`
}

// cut is one power cut.
type cut struct {
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`
	Damaged      int `json:"damaged"`
	Unknown      int `json:"unknown"` // stored although their producer had no answer yet
}

// The store is on a disk of its own; power goes while producers publish; what reached the
// disk is mounted elsewhere, as after a restart of the machine. What had been
// acknowledged must be there with the settings that we ship. With the server's
// defaults it is not, which shows that the test can tell.
func TestPowerCuts(t *testing.T) {
	var losses []powerLoss
	for _, server := range servers {
		random := rand.New(rand.NewPCG(*seed, 8))
		loss := powerLoss{Server: server.name, Cuts: *powerCuts}
		for i := range *powerCuts {
			t.Run(fmt.Sprintf("%s/%d", server.name, i+1), func(t *testing.T) {
				c := cutPower(t, server, 100+random.IntN(700))
				loss.Acknowledged, loss.Lost, loss.Damaged = loss.Acknowledged+c.Acknowledged, loss.Lost+c.Lost, loss.Damaged+c.Damaged
				loss.PerCut = append(loss.PerCut, c)
			})
		}
		losses = append(losses, loss)
		switch {
		case server.safe && loss.Lost+loss.Damaged > 0:
			t.Errorf("%s: %d of %d acknowledged messages lost, %d damaged", server.name, loss.Lost, loss.Acknowledged, loss.Damaged)
		case !server.safe && loss.Lost == 0:
			t.Errorf("%s: nothing was lost in %d cuts: they do not cut", server.name, loss.Cuts)
		}
	}
	leave(t, "powercuts", losses)
	table := fmt.Sprintf("%-28s %6s %14s %6s %8s\n", "server", "cuts", "acknowledged", "lost", "damaged")
	for _, l := range losses {
		table += fmt.Sprintf("%-28s %6d %14d %6d %8d\n", l.Server, l.Cuts, l.Acknowledged, l.Lost, l.Damaged)
	}
	t.Logf("power cuts\n%s", table)
}

// cutPower publishes until so many messages are acknowledged, cuts the power, and looks
// what a server finds on the copy.
func cutPower(t *testing.T, server powered, moment int) cut {
	t.Helper()
	d := newDisk(t)
	process, addr := server.start(t, d.folder)
	acks := &acknowledged{bodies: map[uint64]string{}}
	js := openStreams(t, addr)
	if !server.safe {
		d.sync() // a server that has run for long has had its streams written; what is new is at stake
	}
	stop := acks.publish(t, js, uint64(moment))
	until(t, fmt.Sprintf("%d acknowledgements", moment), func() bool { return acks.count() >= moment })
	known := acks.snapshot()
	copied := filepath.Join(t.TempDir(), "after.img")
	d.cutPower(copied)
	stop()
	process.kill() // before its disk is unmounted
	after := mount(t, copied)
	revived, addr := server.start(t, after.folder)
	defer revived.kill()
	return inspect(t, addr, known)
}

// acknowledged notes what the server has confirmed.
type acknowledged struct {
	mu     sync.Mutex
	bodies map[uint64]string
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.bodies)
}

func (a *acknowledged) snapshot() map[uint64]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.bodies)
}

// openStreams makes the streams as a worker does.
func openStreams(t *testing.T, addr string) jetstream.JetStream {
	t.Helper()
	js := dialNATS(t, addr).js
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	settings := outbox.Settings{Mode: "test", Partitions: 24, Replicas: 1, Manage: true, AckWait: 30 * time.Second}
	if _, err := outbox.Open(ctx, js, settings); err != nil {
		t.Fatal(err)
	}
	return js
}

// publish has eight producers publish until the returned function is called.
func (a *acknowledged) publish(t *testing.T, js jetstream.JetStream, seed uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tr := newTraffic(t, fmt.Sprint("power-", seed), seed, 100)
	tr.good(5000, 0)
	publisher := usage.NewPublisher(js)
	var producers sync.WaitGroup
	for i := range 8 {
		producers.Go(func() { a.produce(ctx, publisher, tr.messages[i*len(tr.messages)/8:(i+1)*len(tr.messages)/8]) })
	}
	return func() { cancel(); producers.Wait() }
}

func (a *acknowledged) produce(ctx context.Context, publisher *usage.Publisher, messages []*message) {
	for _, m := range messages {
		receipt, err := publisher.Publish(ctx, m.event)
		if err != nil {
			return // the power is gone
		}
		a.mu.Lock()
		a.bodies[receipt.Sequence] = string(m.body)
		a.mu.Unlock()
	}
}

// inspect reads the stream after the cut. A stream that is gone has lost everything.
func inspect(t *testing.T, addr string, known map[uint64]string) cut {
	t.Helper()
	c := cut{Acknowledged: len(known)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	js := dialNATS(t, addr).js
	stream, err := js.Stream(ctx, "USAGE")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		c.Lost = len(known)
		return c
	}
	if err != nil {
		t.Fatal(err)
	}
	for sequence, body := range known {
		m, err := stream.GetMsg(ctx, sequence)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			c.Lost++
		case err != nil:
			t.Fatal(err)
		case string(m.Data) != body:
			c.Damaged++
		}
	}
	c.Unknown = max(0, int(stream.CachedInfo().State.Msgs)-(c.Acknowledged-c.Lost))
	return c
}
