package console

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Check is one condition of readiness, by the name that /readyz shows.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says why a check does not hold; no secrets, it is public.
	Detail string `json:"detail,omitempty"`
}

// Config is what the endpoints show.
type Config struct {
	// Registry holds the metrics of this process. Required.
	Registry *prometheus.Registry
	// Ready reports the checks in force now. It is called for every request
	// and must not block: remember states, do not probe. Required. A worker
	// without checks is not ready.
	Ready func() []Check
	// Pages are page and API; nil: there are none.
	Pages *Pages
	// Logger receives failed answers; nil drops them.
	Logger *zap.Logger
}

// New returns the handler of all endpoints.
func New(cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", livez)
	mux.HandleFunc("GET /readyz", cfg.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorLog:          zap.NewStdLog(cfg.Logger),
		// One broken collector must not blind the dashboards to the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	if cfg.Pages != nil {
		cfg.Pages.register(mux)
	}
	return guard(http.NewCrossOriginProtection().Handler(mux))
}

// policy lets a page have what this address serves and nothing else; no script or style
// stands in a page itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard sets the headers that every answer carries.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintln(w, "ok") // the client is gone otherwise, and nobody is left to tell
}

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

func newReadiness(checks []Check) readiness {
	answer := readiness{Ready: len(checks) > 0, Checks: append([]Check{}, checks...)}
	for _, check := range checks {
		answer.Ready = answer.Ready && check.OK
	}
	return answer
}

func (cfg Config) readyz(w http.ResponseWriter, _ *http.Request) {
	answer := newReadiness(cfg.Ready())
	body, err := json.Marshal(answer)
	if err != nil {
		cfg.Logger.Error("encode readiness", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n')) // as in livez
}
