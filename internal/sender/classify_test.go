package sender

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

func answered(status int, body string, header ...string) observation {
	o := observation{
		identifier: ours, end: endAnswered, status: status, body: []byte(body),
		header: http.Header{}, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for i := 0; i < len(header); i += 2 {
		o.header.Set(header[i], header[i+1])
	}
	return o
}

func errorBody(code, message, kind string) string {
	body, err := json.Marshal(map[string]any{"error": map[string]string{"code": code, "message": message, "type": kind}})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// censusRow is the class of a range of statuses, with an error object of Stripe's
// and with anything else.
type censusRow struct {
	from, to     int
	stripe, html delivery.Class
}

var census = []censusRow{
	{100, 199, delivery.Unexpected, delivery.Unexpected},
	{200, 299, delivery.Unexpected, delivery.Unexpected},
	{300, 399, delivery.SetupFault, delivery.SetupFault},
	{400, 400, delivery.Refused, delivery.Unexpected},
	{401, 401, delivery.SetupFault, delivery.SetupFault},
	{402, 402, delivery.Refused, delivery.Unexpected},
	{403, 403, delivery.SetupFault, delivery.SetupFault},
	{404, 404, delivery.Refused, delivery.SetupFault},
	{405, 405, delivery.SetupFault, delivery.SetupFault},
	{406, 407, delivery.Refused, delivery.Unexpected},
	{408, 408, delivery.Unexpected, delivery.Unexpected},
	{409, 409, delivery.Contended, delivery.Contended},
	{410, 414, delivery.Refused, delivery.Unexpected},
	{415, 415, delivery.SetupFault, delivery.SetupFault},
	{416, 428, delivery.Refused, delivery.Unexpected},
	{429, 429, delivery.Throttled, delivery.Throttled},
	{430, 499, delivery.Refused, delivery.Unexpected},
	{500, 599, delivery.ServerFault, delivery.ServerFault},
	{600, 999, delivery.Unexpected, delivery.Unexpected},
}

func TestEveryStatusHasItsClass(t *testing.T) {
	next := 100
	for _, row := range census {
		if row.from != next {
			t.Fatalf("the census has no row for %d", next)
		}
		next = row.to + 1
		for status := row.from; status <= row.to; status++ {
			stripe := classify(answered(status, errorBody("some_code", "Some words.", "invalid_request_error")))
			if stripe.Class != row.stripe || stripe.Code != "some_code" || stripe.Detail != "Some words." {
				t.Errorf("%d with Stripe's error: %+v, want %v", status, stripe, row.stripe)
			}
			if stripe.Status != status {
				t.Errorf("%d: status %d", status, stripe.Status)
			}
			for _, body := range []string{"<html>", "", `{"error":"text"}`, `{"error":{}}`, `[]`, `null`, `{`} {
				if got := classify(answered(status, body)).Class; got != row.html {
					t.Errorf("%d with %q: %v, want %v", status, body, got, row.html)
				}
			}
			large := answered(status, "")
			large.oversize = true
			if got := classify(large).Class; got != row.html {
				t.Errorf("%d over the size limit: %v, want %v", status, got, row.html)
			}
		}
	}
	if next != 1000 {
		t.Fatalf("the census ends at %d", next-1)
	}
}

func TestEveryEndHasItsClass(t *testing.T) {
	want := map[end]delivery.Class{
		endSetup: delivery.SetupFault, endUnsent: delivery.NotSent,
		endCut: delivery.NoAnswer, endAnswered: delivery.Accepted,
		endNone: delivery.NoAnswer, // cannot happen; unknown is the safe reading
	}
	for e := endNone; e <= endAnswered; e++ {
		o := answered(200, accepted)
		o.end = e
		if e != endAnswered {
			o.err = errors.New("read: connection reset by peer")
		}
		answer := classify(o)
		if answer.Class != want[e] {
			t.Errorf("end %d: %v, want %v", e, answer.Class, want[e])
		}
		if o.err != nil && answer.Detail != o.err.Error() {
			t.Errorf("end %d: detail %q", e, answer.Detail)
		}
	}
}

func TestReceipts(t *testing.T) {
	for body, want := range map[string]delivery.Class{
		accepted:                                      delivery.Accepted,
		`{"identifier":"req-1","livemode":true}`:      delivery.ForeignReply,
		`{"identifier":"req-2","livemode":false}`:     delivery.ForeignReply,
		`{"identifier":"","livemode":false}`:          delivery.ForeignReply,
		`{"identifier":"req-2"}`:                      delivery.ForeignReply,
		`{"livemode":true}`:                           delivery.ForeignReply,
		`{"identifier":"req-1"}`:                      delivery.Accepted,
		`{"identifier":null,"livemode":false}`:        delivery.Unexpected,
		`{"identifier":"req-1","livemode":null}`:      delivery.Accepted,
		`{"livemode":false}`:                          delivery.Unexpected,
		`{"identifier":1,"livemode":false}`:           delivery.Unexpected,
		`{"identifier":"req-1","livemode":"false"}`:   delivery.Unexpected,
		`[{"identifier":"req-1","livemode":false}]`:   delivery.Unexpected,
		accepted + accepted:                           delivery.Unexpected,
		accepted[:len(accepted)-1]:                    delivery.Unexpected,
		errorBody("resource_missing", "No such", "x"): delivery.Unexpected,
		"":              delivery.Unexpected,
		"<html></html>": delivery.Unexpected,
	} {
		if got := classify(answered(200, body)).Class; got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
	live := answered(200, strings.Replace(accepted, "false", "true", 1))
	live.live = true
	if got := classify(live).Class; got != delivery.Accepted {
		t.Errorf("live: %v", got)
	}
}

func TestRefusals(t *testing.T) {
	const reason = "Stripe-Rate-Limited-Reason"
	similar := "No such customer: 'cus_1'; A similar object exists in test mode, but a live mode key was used."
	type row struct {
		o    observation
		want delivery.Class
	}
	rows := []row{
		{answered(404, errorBody("", "Unrecognized request URL (POST: /v1/x).", "invalid_request_error")), delivery.SetupFault},
		{answered(404, errorBody("resource_missing", "No such meter", "")), delivery.Refused},
		{answered(404, errorBody("resource_missing", similar, "")), delivery.SetupFault},
		{answered(400, errorBody("resource_missing", similar, "")), delivery.SetupFault},
		{answered(400, errorBody("", "No such thing", "idempotency_error")), delivery.Contended},
		{answered(400, errorBody("lock_timeout", "x", "")), delivery.Contended},
		{answered(401, errorBody("lock_timeout", "x", "")), delivery.SetupFault},
		{answered(409, errorBody("idempotency_key_in_use", "x", "")), delivery.Contended},
		{answered(429, errorBody("rate_limit", "x", "")), delivery.Throttled},
		{answered(429, errorBody("lock_timeout", "x", "")), delivery.Contended},
		{answered(429, errorBody("lock_timeout", "x", ""), reason, "global-rate"), delivery.Throttled},
		{answered(429, "<html>", reason, "global-concurrency"), delivery.Contended},
		{answered(429, "", reason, "endpoint-concurrency"), delivery.Contended},
		{answered(429, "", reason, " Resource-Specific "), delivery.Contended},
		{answered(429, "", reason, "global-rate"), delivery.Throttled},
		{answered(429, "", reason, "endpoint-rate"), delivery.Throttled},
		{answered(429, "", reason, "something-new"), delivery.Throttled},
	}
	for code := range setupCodes {
		for status := 400; status <= 499; status++ {
			rows = append(rows, row{answered(status, errorBody(code, "x", "")), delivery.SetupFault})
		}
		rows = append(rows, row{answered(500, errorBody(code, "x", "")), delivery.ServerFault})
	}
	for _, r := range rows {
		if got := classify(r.o).Class; got != r.want {
			t.Errorf("%d %s %v: %v, want %v", r.o.status, r.o.body, r.o.header, got, r.want)
		}
	}
}

func TestDuplicates(t *testing.T) {
	for _, c := range []struct {
		code, message string
		want          delivery.Class
	}{
		{"", "An event already exists with identifier req-1.", delivery.Duplicate},
		{"", "An event already exists with identifier req-1", delivery.Duplicate},
		{"", "An event ALREADY EXISTS with Identifier `req-1`.", delivery.Duplicate},
		{"", "An event already exists with identifier: “req-1”, sent before.", delivery.Duplicate},
		{"", "An event already exists with identifier.", delivery.Duplicate},
		{"", "An event already exists with identifier", delivery.Duplicate},
		{"duplicate_meter_event", "", delivery.Duplicate},
		{"duplicate_meter_event", "Seen before.", delivery.Duplicate},
		{"", "An event already exists with identifier req-2.", delivery.Unexpected},
		{"", "An event already exists with identifier req-12.", delivery.Unexpected},
		{"", "An event already exists with identifier xreq-1.", delivery.Unexpected},
		{"", "An event already exists with identifier tenant:req-1.", delivery.Unexpected},
		{"", "An event already exists with identifier req-1.b", delivery.Unexpected},
		{"duplicate_meter_event", "An event already exists with identifier req-2.", delivery.Unexpected},
		{"", "An event exists.", delivery.Refused},
		{"resource_already_exists", "Already exists.", delivery.Refused},
	} {
		o := answered(400, errorBody(c.code, c.message, "invalid_request_error"))
		if got := classify(o).Class; got != c.want {
			t.Errorf("%q %q: %v, want %v", c.code, c.message, got, c.want)
		}
	}
	for _, status := range []int{402, 404, 413, 422} {
		o := answered(status, errorBody("x", "An event already exists with identifier req-1.", ""))
		if got := classify(o).Class; got != delivery.Refused {
			t.Errorf("duplicate text with %d: %v", status, got)
		}
	}
}

// An identifier may hold anything that a sentence holds.
func TestDuplicateNamesOddIdentifiers(t *testing.T) {
	for _, identifier := range []string{"a", "a.", "a b", "ümlaut-ß", "x'y", strings.Repeat("é", 255), "a:b", "%5B"} {
		o := answered(400, errorBody("", fmt.Sprintf("An event already exists with identifier %s.", identifier), ""))
		o.identifier = identifier
		if got := classify(o).Class; got != delivery.Duplicate {
			t.Errorf("%q: %v", identifier, got)
		}
		o.identifier = "z" + identifier
		if got := classify(o).Class; got != delivery.Unexpected {
			t.Errorf("other than %q: %v", identifier, got)
		}
	}
}

func TestHeadersOfAnAnswer(t *testing.T) {
	at := "Fri, 02 Jan 2026 03:04:35 GMT" // 30 s after the reply
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-1": 0, "+5": 0, "1.5": 0, "1e9": 0, "soon": 0, "NaN": 0,
		"7": 7 * time.Second, " 7 ": 7 * time.Second, "300": maxRetryAfter, "301": maxRetryAfter,
		"1000000000": maxRetryAfter, "99999999999999999999999": maxRetryAfter,
		at:                              30 * time.Second,
		"Fri, 02 Jan 2026 03:04:04 GMT": 0,
		"Sat, 02 Jan 2027 03:04:05 GMT": maxRetryAfter,
	} {
		if got := classify(answered(503, "", "Retry-After", value)).RetryAfter; got != want {
			t.Errorf("Retry-After %q: %v, want %v", value, got, want)
		}
	}
	for value, want := range map[string]delivery.Retry{
		"true": delivery.RetryYes, "False": delivery.RetryNo, "": delivery.RetryUnsaid, "1": delivery.RetryUnsaid,
	} {
		answer := classify(answered(500, "", "Stripe-Should-Retry", value, "Idempotent-Replayed", value))
		if answer.ShouldRetry != want || answer.Replayed != (value == "true") {
			t.Errorf("Stripe-Should-Retry %q: %+v", value, answer)
		}
	}
	long := classify(answered(500, "", "Request-Id", strings.Repeat("r", 1000)))
	if long.RequestID != strings.Repeat("r", maxRequestID) {
		t.Errorf("request id of %d bytes", len(long.RequestID))
	}
}

func TestNoSecretInWords(t *testing.T) {
	for _, message := range []string{
		"Invalid API Key provided: " + testKey + ".",
		"Invalid API Key provided: sk_test_***************6789",
		"x" + testKey, "rk_live_abc", "RK_LIVE_abc", "sk_org_live_abc", "whsec_abc", "(sk_abc)",
		strings.Repeat("x", maxDetail-10) + testKey,
		strings.Repeat("x", maxDetail-10) + " sk_test_51abc\x00DEF",
	} {
		for _, o := range []observation{
			answered(401, errorBody(message, message, message), "Request-Id", message),
			{end: endCut, err: errors.New(message)},
		} {
			answer := classify(o)
			for _, text := range []string{answer.Detail, answer.Code, answer.RequestID} {
				if strings.Contains(text, "51abc") || strings.Contains(text, "6789") || strings.Contains(text, "_abc") {
					t.Errorf("%q shows in %q", message, text)
				}
			}
			if len(answer.Detail) > maxDetail {
				t.Errorf("detail of %d bytes", len(answer.Detail))
			}
		}
	}
	got := printable("task_1\r\n\x1b[31mred\u202eder\xff é", 100)
	if want := "task_1   [31mred der? é"; got != want {
		t.Errorf("printable: %q, want %q", got, want)
	}
	if got := printable("aé", 2); got != "a" {
		t.Errorf("cut inside a character: %q", got)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(200, accepted, "1", uint8(endAnswered))
	f.Add(400, errorBody("", "An event already exists with identifier req-1.", ""), "x", uint8(endAnswered))
	f.Add(401, errorBody("", "Invalid API Key provided: "+testKey, ""), "-1", uint8(endAnswered))
	f.Add(429, strings.Repeat(`{"error":`, 20000), at10000, uint8(endAnswered))
	f.Fuzz(func(t *testing.T, status int, body, header string, how uint8) {
		o := answered(status, body, "Retry-After", header, "Request-Id", header, "Stripe-Rate-Limited-Reason", header)
		o.end = end(how)
		answer := classify(o)
		if !slices.Contains(delivery.Classes(), answer.Class) {
			t.Errorf("class %d is not on the list", answer.Class)
		}
		if again := classify(o); again != answer {
			t.Errorf("not deterministic: %+v, %+v", answer, again)
		}
		if answer.Class == delivery.Accepted && (status != 200 || o.end != endAnswered) {
			t.Errorf("accepted %d %q", status, body)
		}
		if answer.RetryAfter < 0 || answer.RetryAfter > maxRetryAfter || len(answer.Detail) > maxDetail ||
			len(answer.Code) > maxCode || len(answer.RequestID) > maxRequestID {
			t.Errorf("out of bounds: %+v", answer)
		}
		if strings.Contains(answer.Detail+answer.Code+answer.RequestID, "sk_test_") {
			t.Errorf("a key in %+v", answer)
		}
	})
}

const at10000 = "Fri, 31 Dec 9999 23:59:59 GMT"
