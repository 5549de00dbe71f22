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
	return guard(mux)
}

// guard sets the headers that every answer carries.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
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
