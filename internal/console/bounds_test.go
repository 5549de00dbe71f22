package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// However many letters are replayed one by one, so many are followed at once: each has a
// connection. Those that are let go are done, and so are those that a drain lets go.
func TestFollowingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var following atomic.Int32
		operator := &fakeOperator{doing: func(ctx context.Context, d Deed, report func(Step)) error {
			following.Add(1)
			defer following.Add(-1)
			report(Step{Selected: 1, ID: d.IDs[0], Outcome: "replayed"})
			report(Step{Acted: true})
			<-ctx.Done()
			return nil
		}}
		rs := newRuns(operator)
		ctx, cancel := context.WithCancel(t.Context())
		rs.open(ctx)
		var all []*run
		for i := range 10 * mostRuns {
			r, err := rs.begin(Deed{Kind: Replay, IDs: []uint64{uint64(i + 1)}})
			if err != nil {
				t.Fatal(err)
			}
			r.await(ctx)
			synctest.Wait()
			all = append(all, r)
			if n := following.Load(); n > mostRuns {
				t.Fatalf("%d are followed after %d replays", n, i+1)
			}
		}
		for i, r := range all {
			want := map[bool]string{true: stateFollowing, false: stateDone}[i >= len(all)-mostRuns]
			if v := r.view(); v.State != want || v.Done != 1 {
				t.Errorf("run %d: %+v, want %s", i+1, v, want)
			}
		}
		cancel()
		rs.wait()
		if v := all[len(all)-1].view(); v.State != stateDone || v.Problem != "" {
			t.Errorf("at the drain: %+v", v)
		}
	})
}

// Who stopped a run is told to who carries it out.
func TestWhoStopsARun(t *testing.T) {
	entered, cause := make(chan struct{}), make(chan error, 1)
	operator := &fakeOperator{count: 9, doing: func(ctx context.Context, _ Deed, _ func(Step)) error {
		close(entered)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}}
	s := newScene(t, operator, Access{Loopback: true})
	id := s.bulk(t)
	<-entered
	s.request("POST", "/runs/"+id+"/stop", map[string][]string{"actor": {"bob"}})
	if stopped, ok := errors.AsType[*Stopped](<-cause); !ok || stopped.By != (Who{"bob", "192.0.2.1"}) || stopped.Error() != "stopped by bob from 192.0.2.1" {
		t.Errorf("stopped by %+v", stopped)
	}
}

// A stream ends soon after the token that opened it, however it was given.
func TestStreamsEndWithTheToken(t *testing.T) {
	for _, name := range []string{"bearer", "session"} {
		synctest.Test(t, func(t *testing.T) {
			inForce := atomic.Pointer[string]{}
			first, second := token, "fedcba9876543210"
			inForce.Store(&first)
			s := newScene(t, &fakeOperator{}, Access{Token: func() string { return *inForce.Load() }})
			identify := map[string]func(*http.Request){
				"bearer": withToken(token), "session": withCookie(sessionCookie, s.pages.sessions.begin("ann", token, time.Now())),
			}[name]
			began := time.Now()
			time.AfterFunc(10*time.Second, func() { inForce.Store(&second) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			w := s.request("GET", "/api/events", nil, identify, func(r *http.Request) { *r = *r.WithContext(ctx) })
			if open := time.Since(began); w.Code != 200 || open < 10*time.Second || open > 10*time.Second+2*sampleEvery {
				t.Errorf("%s: status %d, open for %s", name, w.Code, open)
			}
		})
	}
}

// A client that takes nothing of a list, or little, does not keep the others from theirs.
func TestStalledListIsLetGo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes int64 // bytes a second
		most  time.Duration
	}{
		{"nothing", 0, frameTimeout}, {"a little", 2048, readTimeLimit + frameTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			operator := &fakeOperator{count: 1 << 20, text: strings.Repeat("x", 512)}
			pages, err := NewPages(PagesConfig{Operator: operator, Access: Access{Loopback: true}, Registry: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			handler := New(Config{Registry: prometheus.NewRegistry(), Ready: func() []Check { return nil }, Pages: pages})
			listener := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
			client, server := net.Pipe()
			listener.conns <- server
			ctx, cancel := context.WithCancel(t.Context())
			srv := &Server{addr: listener.Addr(), done: make(chan struct{})}
			go srv.serve(ctx, newHTTPServer(handler, zap.NewNop()), listener)
			if _, err := io.WriteString(client, "GET /api/dead-letters HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(pages.reads) != 1 {
				t.Error("the list is not being read")
			}
			for end := time.Now().Add(tt.most + time.Second); time.Now().Before(end); {
				<-time.After(time.Second)
				_, _ = io.CopyN(io.Discard, client, tt.takes) // until it is let go
			}
			if len(pages.reads) != 0 {
				t.Errorf("a client that takes %s has its place still after %s", tt.name, tt.most)
			}
			cancel()
			_ = client.Close()
			<-srv.Done()
		})
	}
}
