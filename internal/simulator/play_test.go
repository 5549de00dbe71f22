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
	"syscall"
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

// faultRow is what a client must see of one kind.
type faultRow struct {
	fault  Fault
	status int // 0: no answer
	code   string
	logged int // status in the books
	check  func(*testing.T, outcome)
}

func truncated(t *testing.T, o outcome) {
	if !errors.Is(o.bodyErr, io.ErrUnexpectedEOF) || o.read == 0 {
		t.Errorf("read %d bytes, %v; want a body cut short", o.read, o.bodyErr)
	}
}

func contains(text string) func(*testing.T, outcome) {
	return func(t *testing.T, o outcome) {
		if !strings.Contains(o.body, text) {
			t.Errorf("body %q lacks %q", o.body, text)
		}
	}
}

func empty(t *testing.T, o outcome) {
	if o.body != "" || o.bodyErr != nil {
		t.Errorf("body %q, %v", o.body, o.bodyErr)
	}
}

func whole(t *testing.T, o outcome) {
	contains(`"identifier":"id-1"`)(t, o)
	if o.bodyErr != nil {
		t.Error(o.bodyErr)
	}
}

func htmlPage(t *testing.T, o outcome) {
	contains("<html>")(t, o)
	if kind := o.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") {
		t.Errorf("content type %q", kind)
	}
}

func faultRows() map[Kind]faultRow {
	const elsewhere = "https://elsewhere.example/v1"
	return map[Kind]faultRow{
		Error500:     {status: 500, logged: 500, check: contains("api_error")},
		Error502HTML: {status: 502, logged: 502, check: htmlPage},
		Error503:     {status: 503, logged: 503, check: contains("api_error")},
		Error520:     {status: 520, logged: 520, check: contains("error code: 520")},
		Error599:     {status: 599, logged: 599, check: contains("api_error")},
		Error999:     {status: 999, logged: 999, check: contains("api_error")},
		Reset: {check: func(t *testing.T, o outcome) {
			if !errors.Is(o.err, syscall.ECONNRESET) {
				t.Errorf("error %v, want a reset", o.err)
			}
		}},
		Cut: {check: func(t *testing.T, o outcome) {
			if !errors.Is(o.err, io.EOF) {
				t.Errorf("error %v, want EOF", o.err)
			}
		}},
		CutBody: {status: 200, check: truncated},
		Hang: {fault: Fault{DelayMillis: 1}, check: func(t *testing.T, o outcome) {
			if !errors.Is(o.err, io.EOF) {
				t.Errorf("error %v, want EOF", o.err)
			}
		}},
		SlowBody: {fault: Fault{DelayMillis: 1}, status: 200, logged: 200, check: whole},
		RateLimited: {status: 429, code: "rate_limit", logged: 429, check: func(t *testing.T, o outcome) {
			if reason := o.header.Get("Stripe-Rate-Limited-Reason"); reason != "global-rate" {
				t.Errorf("reason %q", reason)
			}
		}},
		LockTimeout: {status: 429, code: "lock_timeout", logged: 429, check: func(t *testing.T, o outcome) {
			if o.header.Get("Stripe-Rate-Limited-Reason") != "" {
				t.Error("contention with a reason header")
			}
		}},
		KeyInUse:           {status: 409, code: "idempotency_key_in_use", logged: 409},
		ConcurrentRequests: {status: 409, code: "too_many_concurrent_requests", logged: 409},
		Unauthorized:       {status: 401, code: "api_key_expired", logged: 401},
		Forbidden:          {status: 403, code: "more_permissions_required", logged: 403},
		Redirect: {fault: Fault{Status: 308, Location: elsewhere}, status: 308, logged: 308, check: func(t *testing.T, o outcome) {
			if to := o.header.Get("Location"); to != elsewhere {
				t.Errorf("location %q", to)
			}
		}},
		RouteNotFound:  {status: 404, logged: 404, check: contains("Unrecognized request URL (POST: /v1/billing/meter_events).")},
		Refused:        {fault: Fault{Status: 422, Code: "odd"}, status: 422, code: "odd", logged: 422},
		DuplicateOther: {status: 400, logged: 400, check: contains("An event already exists with identifier another-identifier")},
		RejectedLater:  {status: 200, logged: 200, check: whole},
		EmptyOK:        {status: 200, logged: 200, check: empty},
		HTMLOK:         {status: 200, logged: 200, check: htmlPage},
		OtherIdentifier: {status: 200, logged: 200, check: func(t *testing.T, o outcome) {
			contains(`"identifier":"another-identifier"`)(t, o)
		}},
		WrongLivemode: {status: 200, logged: 200, check: contains(`"livemode":true`)},
		NoContent:     {status: 204, logged: 204, check: empty},
		OversizeBody: {status: 200, logged: 200, check: func(t *testing.T, o outcome) {
			if o.read != oversize || o.bodyErr != nil {
				t.Errorf("read %d bytes, %v", o.read, o.bodyErr)
			}
		}},
		EndlessBody: {status: 200, check: func(t *testing.T, o outcome) {
			if o.read != bodyLimit || o.header.Get("Content-Length") != "" {
				t.Errorf("read %d bytes, %v, length %q", o.read, o.bodyErr, o.header.Get("Content-Length"))
			}
		}},
		GzipBomb: {status: 200, logged: 200, check: func(t *testing.T, o outcome) {
			if o.read != bodyLimit || o.raw {
				t.Errorf("read %d bytes, uncompressed on the way: %v", o.read, o.raw)
			}
		}},
		HugeHeader: {logged: 200, check: func(t *testing.T, o outcome) {
			if o.err == nil || !strings.Contains(o.err.Error(), "headers exceeded") {
				t.Errorf("error %v, want headers beyond Go's limit of 10 MiB", o.err)
			}
		}},
		InterimFlood: {status: 200, logged: 200, check: func(t *testing.T, o outcome) {
			whole(t, o)
			if o.interim != interimAnswers {
				t.Errorf("%d interim answers", o.interim)
			}
		}},
	}
}

// TestEveryKindHasItsRow is the census: a kind without a row, a row without a
// kind, or a kind that cannot be played fails.
func TestEveryKindHasItsRow(t *testing.T) {
	rows := faultRows()
	for _, kind := range Kinds() {
		spec, playable := kinds[kind]
		if _, tested := rows[kind]; !tested || !playable {
			t.Errorf("%s: row %v, playable %v", kind, tested, playable)
		}
		if by := (spec.reply != nil) != (spec.perform != nil); by == (spec.stage == afterwards) {
			t.Errorf("%s is played by both a reply and a performance, or by neither", kind)
		}
	}
	if len(rows) != len(Kinds()) || len(kinds) != len(Kinds()) {
		t.Errorf("%d kinds, %d played, %d rows", len(Kinds()), len(kinds), len(rows))
	}
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
	if row.fault.Recorded || row.fault.Kind == RejectedLater {
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
	if _, err := b.client.Do(b.event(b.form("id-1")).WithContext(ctx)); !errors.Is(err, context.Canceled) {
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
		Redirect, RouteNotFound, Refused, DuplicateOther, RejectedLater,
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
