package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// Path is where Stripe delivers.
	Path = "/webhooks"

	// maxBody bounds a request in bytes; a thin event has some 400.
	maxBody = 64 << 10

	// maxAtOnce bounds the requests under way; further ones are told to come again.
	maxAtOnce = 64
)

// Result is what became of a request. The list is closed: see [Results].
type Result string

// The results.
const (
	Stored       Result = "stored"        // a report, and now it is ours
	Ignored      Result = "ignored"       // verified, and of a type or form that is not about usage
	Malformed    Result = "malformed"     // no request that Stripe would make
	Unsigned     Result = "unsigned"      // the signature is missing, wrong, or of another time
	OtherMode    Result = "other_mode"    // test instead of live, or the other way round
	OtherAccount Result = "other_account" // another account's
	Failed       Result = "failed"        // not stored; Stripe delivers it again
)

// Results returns the closed list.
func Results() []Result {
	return []Result{Stored, Ignored, Malformed, Unsigned, OtherMode, OtherAccount, Failed}
}

// Store keeps reports.
type Store interface {
	// Put stores a report under its id; nil means that it is stored, now or before.
	Put(ctx context.Context, id, token string, body []byte) error
}

// ReceiverConfig is what a [Receiver] needs.
type ReceiverConfig struct {
	Secrets func() []string // in force, read for each request
	Live    bool            // the mode that reports must be of
	Store   Store
	Count   func(Result)
	Log     *zap.Logger
}

// Receiver answers Stripe's deliveries.
type Receiver struct {
	cfg    ReceiverConfig
	places chan struct{}
}

// NewReceiver returns the handler of [Path].
func NewReceiver(cfg ReceiverConfig) *Receiver {
	return &Receiver{cfg: cfg, places: make(chan struct{}, maxAtOnce)}
}

// refusal is why a request is not taken.
type refusal struct {
	result Result
	status int
}

// ServeHTTP implements [http.Handler]. Bodies of answers say nothing beyond their status.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	default:
		r.answer(w, Failed, http.StatusServiceUnavailable)
		return
	}
	body, no := read(w, req)
	if no != nil {
		if no.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		r.answer(w, no.result, no.status)
		return
	}
	if err := verify(signatureOf(req), body, r.cfg.Secrets(), time.Now()); err != nil {
		r.cfg.Log.Warn("a webhook request is refused: its signature is missing, wrong or of another time; see docs/webhooks.md")
		r.answer(w, Unsigned, http.StatusBadRequest)
		return
	}
	result, status := r.take(req.Context(), body)
	r.answer(w, result, status)
}

// signatureOf is the header if there is exactly one.
func signatureOf(req *http.Request) string {
	if values := req.Header.Values("Stripe-Signature"); len(values) == 1 {
		return values[0]
	}
	return ""
}

// read takes the body in, or says why not.
func read(w http.ResponseWriter, req *http.Request) ([]byte, *refusal) {
	switch encoding := req.Header.Get("Content-Encoding"); {
	case req.URL.Path != Path:
		return nil, &refusal{Malformed, http.StatusNotFound}
	case req.Method != http.MethodPost:
		return nil, &refusal{Malformed, http.StatusMethodNotAllowed}
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, &refusal{Malformed, http.StatusUnsupportedMediaType} // the signature is over the plain bytes
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &refusal{Malformed, http.StatusRequestEntityTooLarge}
	case err != nil:
		return nil, &refusal{Malformed, http.StatusBadRequest}
	}
	return body, nil
}

func (r *Receiver) answer(w http.ResponseWriter, result Result, status int) {
	r.cfg.Count(result)
	w.WriteHeader(status)
}

// take stores a verified report. What is not for us but Stripe's is answered with 200: an
// endpoint that refuses is disabled by Stripe after some days, and with it the reports.
// What shows that the endpoint is registered for the wrong account or mode is refused.
func (r *Receiver) take(ctx context.Context, body []byte) (Result, int) {
	n, what, err := parseNotification(body, r.cfg.Live)
	if err != nil {
		r.cfg.Log.Warn("a webhook request is refused although its signature is right: it is no event that this version can read")
		return Malformed, http.StatusBadRequest
	}
	log := r.cfg.Log.With(zap.String("event", cut(n.ID, 210)), zap.String("type", cut(n.Type, 100)))
	switch what {
	case snapshot, unknown:
		log.Warn("a webhook event is ignored: it is not about usage; register the endpoint for thin events of v1.billing.meter only")
		return Ignored, http.StatusOK
	case otherMode:
		log.Error("a webhook event is refused: it is of the other mode (test, live); register this endpoint in the mode of this worker's key only", zap.Bool("worker_live", r.cfg.Live))
		return OtherMode, http.StatusForbidden
	case foreign:
		log.Error("a webhook event is refused: it is another account's; register this endpoint for your own account's events only")
		return OtherAccount, http.StatusForbidden
	case report:
	}
	if err := r.cfg.Store.Put(ctx, n.ID, tokens[n.Type], body); err != nil {
		log.Error("a report of rejected usage is not stored; Stripe will deliver it again", zap.Error(err))
		return Failed, http.StatusServiceUnavailable
	}
	log.Info("a report of rejected usage is stored")
	return Stored, http.StatusOK
}
