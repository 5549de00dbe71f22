package simulator

import "time"

// DefaultVersion is the Stripe-Version that is required unless configured.
const DefaultVersion = "2024-10-28.acacia"

// Scope says within what an identifier must be unique. Stripe's true scope is
// not documented.
type Scope string

// The scopes, narrowest first.
const (
	ScopeCustomer Scope = "customer"   // per event name and customer
	ScopeMeter    Scope = "event_name" // per event name
	ScopeAccount  Scope = "account"    // over the whole account
)

// Config sets a simulator up. The zero value is the strictest useful Stripe.
type Config struct {
	// Keys are the accepted secret keys. Empty: every well-formed test key
	// (sk_test_…, rk_test_…); a live key is accepted only when listed.
	Keys []string
	// Version is the one Stripe-Version accepted; default [DefaultVersion].
	Version string
	// Rate (requests a second) and Burst make a token bucket over all calls but
	// the v2 stream's; defaults 1000 and 20. A negative Rate is no limit.
	Rate  float64
	Burst int
	// StreamRate (events a second) and StreamBurst are the v2 stream's bucket;
	// defaults 10000 and 200. A negative StreamRate is no limit.
	StreamRate  float64
	StreamBurst int
	// ManyPerCustomer allows concurrent calls for one customer and meter, which
	// Stripe refuses. They are tallied as violations either way.
	ManyPerCustomer bool
	// Latency ± Jitter (uniform) is how long an execution takes, in real time;
	// an event is counted half-way through.
	Latency, Jitter time.Duration
	// Meters are the account's meters. Empty: every event name has an active
	// meter that sums payload[value] by payload[stripe_customer_id].
	Meters []Meter
	// Memory is how long identifiers are remembered; default exactly 24 h.
	Memory time.Duration
	// Scope of identifiers; default [ScopeCustomer].
	Scope Scope
	// StreamInTestMode opens API v2 to test keys, which Stripe does not.
	StreamInTestMode bool
	// ReportWindow is how much time one report of events that were rejected later covers;
	// default 10 s, as at Stripe.
	ReportWindow time.Duration
	// ReportRequests has the samples of reports name {id, idempotency_key} instead of the
	// identifier: Stripe's documents show both.
	ReportRequests bool
	// SummaryDelay is how long an event is missing in the summaries after it was counted; default
	// 0. Stripe's are eventually consistent.
	SummaryDelay time.Duration
	// Seed fixes faults with a probability, jitter and request ids: the n-th
	// matching request draws the n-th number.
	Seed uint64
	// Now is the clock underneath; default time.Now. See [Simulator.Advance].
	Now func() time.Time
}

func (cfg Config) withDefaults() Config {
	orDefault(&cfg.Version, DefaultVersion)
	orDefault(&cfg.Rate, 1000)
	orDefault(&cfg.Burst, 20)
	orDefault(&cfg.StreamRate, 10_000)
	orDefault(&cfg.StreamBurst, 200)
	orDefault(&cfg.Memory, 24*time.Hour)
	orDefault(&cfg.Scope, ScopeCustomer)
	orDefault(&cfg.ReportWindow, reportWindow)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
