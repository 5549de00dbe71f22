package cluster

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// On a cluster, too, a worker halts when an old copy of everything is put back under it, and
// when a stream is made anew.
func TestAnOldCopyHalts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, size{nodes: clusterSize, workers: 1, partitions: 3, rate: 200})
	w.startFleet(3)
	w.some(30)
	old := w.copied()
	w.some(30)
	sent := w.stripe.sent()
	w.putBack(old)
	w.halts("stream USAGE: last sequence is 30", "it was 60", "an old copy was put back")
	w.anew("USAGE_DLQ")
	w.halts("stream USAGE_DLQ: created is", "made anew")
	until(t, "all partitions to be given up", func() bool { return w.workers[0].metric("meterworker_partitions_owned") == 0 })
	if now := w.stripe.sent(); now != sent {
		t.Errorf("%d requests on an old copy", now-sent)
	}
}

// some publishes n events and waits until they are delivered and acked.
func (w *world) some(n int) {
	w.t.Helper()
	for range n {
		w.traffic.publish("cus_some")
	}
	until(w.t, "the events to be acked", w.client.settled)
}

// halts waits until the only worker says that it halts, and why.
func (w *world) halts(reasons ...string) {
	w.t.Helper()
	p := w.workers[0]
	until(w.t, fmt.Sprintf("the worker to halt for %q", reasons), func() bool {
		status, body := p.get("/readyz")
		for _, reason := range reasons {
			if !strings.Contains(body, reason) {
				return false
			}
		}
		return status == http.StatusServiceUnavailable && p.metric(`meterworker_breaker_state{state="halted"}`) == 1
	})
}

// copied stops all servers, copies their stores, and starts them again; it returns the
// folders, by node.
func (w *world) copied() []string {
	w.t.Helper()
	var copies []string
	w.stopped(func() {
		for _, n := range w.all {
			dir := filepath.Join(w.t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(n.store)); err != nil {
				w.t.Fatal(err)
			}
			copies = append(copies, dir)
		}
	})
	return copies
}

// putBack exchanges the stores of all servers.
func (w *world) putBack(copies []string) {
	w.t.Helper()
	w.stopped(func() {
		for i, n := range w.all {
			if err := os.RemoveAll(filepath.Join(n.store, "jetstream")); err != nil {
				w.t.Fatal(err)
			}
			if err := os.CopyFS(n.store, os.DirFS(copies[i])); err != nil {
				w.t.Fatal(err)
			}
		}
	})
}

// stopped does something while no server runs.
func (w *world) stopped(do func()) {
	w.t.Helper()
	for _, n := range w.all {
		n.signal(syscall.SIGTERM)
	}
	for _, n := range w.all {
		until(w.t, n.name+" to end", n.ended)
	}
	do()
	for _, n := range w.all {
		n.start()
	}
	for _, n := range w.all {
		until(w.t, n.name+" to be back", n.healthy)
	}
}

// anew deletes a stream and creates it again as it was.
func (w *world) anew(stream string) {
	w.t.Helper()
	var cfg jetstream.StreamConfig
	until(w.t, stream, func() bool {
		info := w.client.info(stream)
		if info != nil {
			cfg = info.Config
		}
		return info != nil
	})
	ctx, cancel := w.client.call()
	defer cancel()
	if err := w.client.js.DeleteStream(ctx, stream); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.client.js.CreateStream(ctx, cfg); err != nil {
		w.t.Fatal(err)
	}
}
