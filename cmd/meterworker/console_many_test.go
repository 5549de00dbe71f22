package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/outbox"
)

// workerProgram is `meterworker run` as a process of its own, with its admin address.
type workerProgram struct {
	t     *testing.T
	admin string
	peak  func() int // KiB
	end   func()
}

// pausedWorker starts a worker that has no Stripe to send to, and pauses it.
func (o *testOutbox) pausedWorker() *workerProgram {
	o.t.Helper()
	cmd := o.program("run")
	cmd.Env = append(cmd.Env, "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=http://127.0.0.1:1", "METERWORKER_ADMIN_ADDR=127.0.0.1:0",
		"METERWORKER_PARTITIONS=4", "METERWORKER_LOG_FORMAT=json")
	log, err := cmd.StderrPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				o.t.Errorf("the worker ended with %v", err)
			}
		}
	}
	o.t.Cleanup(end)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // until it ends
			w := &workerProgram{o.t, line.Admin, func() int { return peak(o.t, cmd) }, end}
			w.ask("POST", "/pause", url.Values{"why": {"nothing is delivered here"}}, nil)
			return w
		}
	}
	o.t.Fatal("the worker does not serve")
	return nil
}

func (w *workerProgram) ask(method, target string, form url.Values, read func(io.Reader)) (location string) {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://"+w.admin+target, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("%s %s: %d", method, target, response.StatusCode)
	}
	if read != nil {
		read(response.Body)
	}
	return response.Header.Get("Location")
}

// However many letters there are, none is hidden, and the memory of the worker whose console
// reads, counts and replays them stays what it was.
func TestConsoleManyDeadLetters(t *testing.T) {
	o := newGraveyard(t)
	w := o.pausedWorker()
	const room = 60 << 10 // KiB, as in TestManyDeadLetters
	w.ask("GET", "/dead-letters?limit=1", nil, nil)
	idle := w.peak()
	lines := 0
	w.ask("GET", "/api/dead-letters", nil, func(body io.Reader) {
		for scanner := bufio.NewScanner(body); scanner.Scan(); {
			lines++
		}
	})
	if lines != manyLetters {
		t.Errorf("%d letters, want %d", lines, manyLetters)
	}
	page := ""
	w.ask("GET", "/dead-letters/replay?q=req-", nil, func(body io.Reader) {
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		page = string(text)
	})
	if !strings.Contains(page, fmt.Sprintf("Replay %d dead letters?", manyLetters)) {
		t.Errorf("page %s", page)
	}
	const replayed = 3000
	run := w.ask("POST", fmt.Sprintf("/dead-letters/replay?q=req-&through=%d&count=%d", manyLetters, replayed), url.Values{"rate": {"10000"}}, nil)
	within(t, time.Minute, "the end of the run", func() bool {
		var r runState
		w.ask("GET", "/api"+run, nil, func(body io.Reader) {
			if err := json.NewDecoder(body).Decode(&r); err != nil {
				t.Fatal(err)
			}
		})
		return r.count("replayed") == replayed
	})
	if kib := w.peak(); kib > idle+room {
		t.Errorf("%d MiB at the most, %d before", kib>>10, idle>>10)
	}
	w.end()
	if left := o.stored(outbox.DLQStream); left != manyLetters-replayed {
		t.Errorf("%d letters are left", left)
	}
}
