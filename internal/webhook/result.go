package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// result is what came of a report, as it is stored.
type result struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	State     string    `json:"state"` // joined, not_found or unreadable
	Meter     string    `json:"meter,omitempty"`
	EventName string    `json:"event_name,omitempty"`
	Start     time.Time `json:"validation_start,omitzero"`
	End       time.Time `json:"validation_end,omitzero"`
	Count     int       `json:"error_count"`
	Named     int       `json:"named"`
	Unnamed   int       `json:"unnamed"`
	Codes     []byCode  `json:"codes,omitempty"`
	Cut       bool      `json:"search_cut,omitempty"` // there was too much to look at
}

// byCode are the numbers of one code; code is "" for what the report counts under none.
type byCode struct {
	Code    string `json:"code"`
	Count   int    `json:"error_count"`
	Named   int    `json:"named"`
	Unnamed int    `json:"unnamed"`
}

// tally compares what was counted with what could be named.
func tally(r Report, named map[string]map[uint64]bool) result {
	out := result{State: "joined", Start: r.Start, End: r.End, Count: r.Count}
	sum := 0
	for code, count := range r.ByCode {
		sum += count
		c := byCode{Code: code, Count: count, Named: min(len(named[code]), count)}
		c.Unnamed = count - c.Named
		out.Codes = append(out.Codes, c)
	}
	if r.Count > sum {
		out.Codes = append(out.Codes, byCode{Count: r.Count - sum, Unnamed: r.Count - sum})
	}
	slices.SortFunc(out.Codes, func(a, b byCode) int { return b.Count - a.Count })
	for _, c := range out.Codes {
		out.Named, out.Unnamed = out.Named+c.Named, out.Unnamed+c.Unnamed
	}
	return out
}

func (w *Worker) finish(ctx context.Context, r result) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("result of report %s: %w", r.ID, err)
	}
	return w.inbox.Finish(ctx, r.ID, data)
}

// tell counts and logs a finished report. A crash before it leaves the result to be read.
func (w *Worker) tell(r result, log *zap.Logger) {
	for _, c := range r.Codes {
		w.counts.Rejected(c.Code, c.Count)
	}
	w.counts.Unnamed(r.EventName, r.Unnamed)
	log = log.With(zap.String("event_name", r.EventName), zap.Int("rejected", r.Count), zap.Int("named", r.Named), zap.Int("unnamed", r.Unnamed), zap.Any("codes", r.Codes))
	if r.Unnamed > 0 {
		log.Warn("Stripe has rejected usage that it accepted, and does not name all of it: what to do about the rest is in docs/webhooks.md", zap.Bool("search_cut", r.Cut))
		return
	}
	log.Warn("Stripe has rejected usage that it accepted: it is in the dead letters as " + string(deadletter.RejectedLater))
}
