package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// outcome is what a client sees of a fault. Only so much of a body is read as
// its test asks for.
type outcome struct {
	err     error // of the call
	bodyErr error // of reading the body
	status  int
	header  http.Header
	body    string
	read    int64
	interim int
	raw     bool // the body came uncompressed
}

// bodyLimit is enough of an endless body to believe in it.
const bodyLimit = 80 << 20

func (b *bench) outcome(r *http.Request) outcome {
	b.t.Helper()
	var o outcome
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	response, err := b.client.Do(r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			o.interim++
			return nil
		},
	})))
	if err != nil {
		o.err = err
		return o
	}
	defer response.Body.Close()
	o.status, o.header, o.raw = response.StatusCode, response.Header, !response.Uncompressed
	var head strings.Builder
	o.read, o.bodyErr = io.Copy(&cappedWriter{&head}, io.LimitReader(response.Body, bodyLimit))
	o.body = head.String()
	return o
}

// cappedWriter keeps the first 4 KiB.
type cappedWriter struct{ kept *strings.Builder }

func (w *cappedWriter) Write(p []byte) (int, error) {
	w.kept.Write(p[:min(len(p), max(0, 4096-w.kept.Len()))])
	return len(p), nil
}

func TestFaults(t *testing.T) {
	for _, kind := range Kinds() {
		row := faultRows()[kind]
		row.fault.Kind, row.fault.Times = kind, 1
		for _, recorded := range []bool{false, true} {
			if recorded && !kind.MayBeRecorded() {
				continue
			}
			t.Run(fmt.Sprintf("%s/recorded=%v", kind, recorded), func(t *testing.T) {
				row.fault.Recorded = recorded
				testFault(t, row)
			})
		}
	}
}

func testFault(t *testing.T, row faultRow) {
	b := newBench(t, Config{})
	b.inject(row.fault)
	o := b.outcome(b.event(b.form("id-1")))
	code, _, _ := testReply{body: o.body}.failure()
	if (o.err == nil) != (row.status != 0) || o.status != row.status || code != row.code {
		t.Errorf("got %d %q %v, want %d %q", o.status, code, o.err, row.status, row.code)
	}
	if row.check != nil {
		row.check(t, o)
	}
	var counted int64
	if row.fault.Recorded {
		counted = 1
	}
	totals := b.Totals()
	if totals.Counted != counted || totals.ByStatus[row.logged] != 1 || totals.Faults[row.fault.Kind] != 1 {
		t.Errorf("totals %+v, want %d counted and one of status %d", totals, counted, row.logged)
	}
	if line := b.Requests()[0]; line.Fault != row.fault.Kind || line.Status != row.logged {
		t.Errorf("log %+v", line)
	}
	// The script has run out; the next attempt gets what Stripe would say.
	again, want := b.send("id-1"), 200
	if row.fault.Recorded || row.fault.Kind == RejectedLater || row.fault.Kind == NotCounted {
		want = 400
	}
	if again.status != want || len(b.Faults()) != 0 {
		t.Errorf("again: %d %s, want %d; faults left %v", again.status, again.body, want, b.Faults())
	}
}

func TestHangEndsWhenTheClientLeaves(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: Hang, Recorded: true})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-b.arrived
		leave()
	}()
	if _, err := b.client.Do(b.event(b.form("id-1")).WithContext(ctx)); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is no response
		t.Errorf("error %v", err)
	}
	b.server.Close() // returns when the handler has ended
	if got := b.Totals(); got.Counted != 1 || got.ByStatus[0] != 1 {
		t.Errorf("totals %+v", got)
	}
}

func TestFaultHeaders(t *testing.T) {
	for _, kind := range []Kind{Error500, Error503, RateLimited, LockTimeout, Refused, CutBody} {
		b := newBench(t, Config{})
		b.inject(Fault{Kind: kind, RetryAfter: "-1", ShouldRetry: "true", Replayed: true})
		o := b.outcome(b.event(b.form("id-1")))
		got := []string{
			o.header.Get("Retry-After"), o.header.Get("Stripe-Should-Retry"), o.header.Get("Idempotent-Replayed"),
		}
		if want := []string{"-1", "true", "true"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: headers %q", kind, got)
		}
	}
}

func TestRateLimitReason(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: RateLimited, Reason: "resource-specific"})
	if got := b.send("id-1").header.Get("Stripe-Rate-Limited-Reason"); got != "resource-specific" {
		t.Errorf("reason %q", got)
	}
}

// TestEdgeFaultsStrikeReplaysToo: a script of three cuts is three cuts, although
// from the second attempt on the answer comes out of the idempotency memory.
func TestEdgeFaultsStrikeReplaysToo(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: Cut, Recorded: true, Times: 3})
	attempt := func() outcome {
		r := b.event(b.form("id-1"))
		r.Header.Set("Idempotency-Key", "k")
		return b.outcome(r)
	}
	for i := range 3 {
		if o := attempt(); o.err == nil {
			t.Errorf("attempt %d was answered with %d", i, o.status)
		}
	}
	if o := attempt(); o.status != 200 || o.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("fourth: %d %v %v", o.status, o.header, o.err)
	}
	if got := b.Totals().Counted; got != 1 {
		t.Errorf("counted %d", got)
	}
}

func TestFaultsOnOtherRoutes(t *testing.T) {
	for _, kind := range []Kind{Error500, LockTimeout, CutBody, RateLimited} {
		b := newBench(t, Config{})
		b.inject(Fault{Kind: kind, Path: "/v1/account", Times: 1})
		o := b.outcome(b.request(http.MethodGet, "/v1/account", "", ""))
		if want := faultRows()[kind].status; o.status != want {
			t.Errorf("%s: got %d %v, want %d", kind, o.status, o.err, want)
		}
		if kind == CutBody {
			truncated(t, o)
		}
		b.want(b.get("/v1/account"), 200, "")
	}
}

func TestOutcomeUnknownKindsAreThoseThatMayBeRecorded(t *testing.T) {
	never := []Kind{
		RateLimited, LockTimeout, KeyInUse, ConcurrentRequests, Unauthorized, Forbidden,
		Redirect, RouteNotFound, Refused, DuplicateOther, RejectedLater, NotCounted,
	}
	for _, kind := range Kinds() {
		if kind.MayBeRecorded() == slices.Contains(never, kind) {
			t.Errorf("%s: may be recorded %v", kind, kind.MayBeRecorded())
		}
	}
}

// TestSlowBodyEndsWhenTheClientLeaves: a byte in ten seconds must not hold the
// handler once nobody reads.
func TestSlowBodyEndsWhenTheClientLeaves(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: SlowBody, DelayMillis: time.Hour.Milliseconds()})
	ctx, leave := context.WithCancel(t.Context())
	response, err := b.client.Do(b.event(b.form("id-1")).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if _, err := io.ReadAll(response.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	response.Body.Close()
	b.server.Close() // returns when the handler has ended
}
