package simulator

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
)

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
		NotCounted:     {status: 200, logged: 200, check: whole},
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
