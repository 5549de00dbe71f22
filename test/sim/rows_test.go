package sim

import (
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// ending is how a connection ends after the request was read.
type ending uint8

const (
	answered  ending = iota // with the whole answer
	cutSilent               // without a byte
	cutBody                 // in the middle of the body
	tooSlow                 // long after the client's time-out
)

// row is one way in which Stripe, or something in between, may answer.
type row struct {
	name   string
	class  delivery.Class // what the worker must take it for
	status int
	reason string // Stripe-Rate-Limited-Reason
	code   string // of the error object
	html   bool   // the body is none of Stripe's
	empty  bool   // there is no body
	counts bool   // the event is received all the same
	stored bool   // the answer is kept under the Idempotency-Key
	retry  string // Stripe-Should-Retry
	after  time.Duration
	end    ending
	odd    string // what is wrong with a 200: "identifier" or "livemode"
}

// rows are the answers beside the usual ones; each is a kind of fault.
var rows = []row{
	{name: "400 for the event", class: delivery.Refused, status: 400, code: "parameter_invalid"},
	{name: "402", class: delivery.Refused, status: 402, code: "resource_missing", stored: true},
	{name: "404 for a resource", class: delivery.Refused, status: 404, code: "resource_missing"},
	{name: "413", class: delivery.Refused, status: 413, code: "too_large"},
	{name: "422", class: delivery.Refused, status: 422, code: "unprocessable"},
	{name: "400 for the mode", class: delivery.SetupFault, status: 400, code: "livemode_mismatch"},
	{name: "401", class: delivery.SetupFault, status: 401, code: "api_key_invalid"},
	{name: "403", class: delivery.SetupFault, status: 403, code: "permission_denied"},
	{name: "404 for the route", class: delivery.SetupFault, status: 404, html: true},
	{name: "405", class: delivery.SetupFault, status: 405, code: "method"},
	{name: "415", class: delivery.SetupFault, status: 415, code: "media_type"},
	{name: "301", class: delivery.SetupFault, status: 301, html: true},
	{name: "307", class: delivery.SetupFault, status: 307, html: true},
	{name: "308", class: delivery.SetupFault, status: 308, empty: true},
	{name: "409", class: delivery.Contended, status: 409, code: "idempotency_key_in_use"},
	{name: "409, do not retry", class: delivery.Contended, status: 409, code: "too_many_concurrent_requests", retry: "false"},
	{name: "429 for the rate", class: delivery.Throttled, status: 429, reason: "global-rate", code: "rate_limit"},
	{name: "429 for the rate, Retry-After", class: delivery.Throttled, status: 429, reason: "endpoint-rate", code: "rate_limit", after: 3 * time.Second},
	{name: "429 lock_timeout", class: delivery.Contended, status: 429, code: "lock_timeout"},
	{name: "429 lock_timeout, stored", class: delivery.Contended, status: 429, code: "lock_timeout", stored: true},
	{name: "429 for one object", class: delivery.Contended, status: 429, reason: "resource-specific", code: "rate_limit"},
	{name: "500", class: delivery.ServerFault, status: 500, code: "api_error", stored: true},
	{name: "500, counted", class: delivery.ServerFault, status: 500, code: "api_error", stored: true, counts: true},
	{name: "500, do not retry", class: delivery.ServerFault, status: 500, code: "api_error", counts: true, retry: "false"},
	{name: "500, retry", class: delivery.ServerFault, status: 500, code: "api_error", retry: "true"},
	{name: "502 HTML", class: delivery.ServerFault, status: 502, html: true},
	{name: "502 HTML, counted", class: delivery.ServerFault, status: 502, html: true, counts: true},
	{name: "503", class: delivery.ServerFault, status: 503, empty: true},
	{name: "520", class: delivery.ServerFault, status: 520, html: true, counts: true},
	{name: "204", class: delivery.Unexpected, status: 204, empty: true},
	{name: "204, counted", class: delivery.Unexpected, status: 204, empty: true, counts: true},
	{name: "200 HTML", class: delivery.Unexpected, status: 200, html: true},
	{name: "200 HTML, counted", class: delivery.Unexpected, status: 200, html: true, counts: true},
	{name: "200 for another identifier", class: delivery.ForeignReply, status: 200, odd: "identifier", counts: true},
	{name: "200 of the other mode", class: delivery.ForeignReply, status: 200, odd: "livemode", counts: true},
	{name: "cut before it was executed", class: delivery.NoAnswer, end: cutSilent},
	{name: "cut after it was counted", class: delivery.NoAnswer, counts: true, end: cutSilent, stored: true, status: 200},
	{name: "body cut", class: delivery.NoAnswer, status: 200, counts: true, end: cutBody},
	{name: "slow, not counted", class: delivery.NoAnswer, end: tooSlow, status: 500, empty: true},
	{name: "slow, counted", class: delivery.NoAnswer, counts: true, end: tooSlow, status: 200},
}

// The usual answers.
var (
	rowAccepted  = row{name: "200", class: delivery.Accepted, status: 200, stored: true}
	rowDuplicate = row{name: "400 duplicate", class: delivery.Duplicate, status: 400, retry: "false"}
	rowDate      = row{name: "400 timestamp", class: delivery.Refused, status: 400, code: "timestamp_invalid"}
	rowKey       = row{name: "401 unknown key", class: delivery.SetupFault, status: 401, code: "api_key_invalid"}
	rowLimit     = row{name: "429 over the limit", class: delivery.Throttled, status: 429, reason: "global-rate", code: "rate_limit"}
	rowBusy      = row{name: "429 customer busy", class: delivery.Contended, status: 429, code: "lock_timeout"}
)

// outages are what everybody is answered while Stripe is down.
var outages = []row{
	{name: "outage: 503", class: delivery.ServerFault, status: 503, empty: true},
	{name: "outage: 502 HTML", class: delivery.ServerFault, status: 502, html: true},
	{name: "outage: 500, counted", class: delivery.ServerFault, status: 500, code: "api_error", counts: true, stored: true},
	{name: "outage: cut", class: delivery.NoAnswer, end: cutSilent},
	{name: "outage: cut after counting", class: delivery.NoAnswer, counts: true, end: cutSilent},
}
