package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/meterworker/meterworker/internal/meters"
)

// Answer is Stripe's to one question.
type Answer struct {
	Status     int
	Body       []byte
	RetryAfter time.Duration // 0 where it is not said
}

// Stripe asks the questions, each under a permit, and again where that may help.
type Stripe struct {
	// Read asks once. An error means that there was no whole answer; one that wraps ErrStop
	// is not asked again.
	Read func(ctx context.Context, path string) (Answer, error)

	reads int
}

// ErrStop says that asking again does not help.
var ErrStop = errors.New("not asked again")

// errMissing says that Stripe has no such object.
var errMissing = errors.New("Stripe has no such object")

const (
	mostTries  = 8                // of one question; with the waits in between about two minutes
	leastPause = time.Second      // after the first
	mostPause  = 30 * time.Second // Stripe's own Retry-After wins
)

// ask returns the body of a 200.
func (s *Stripe) ask(ctx context.Context, path string) ([]byte, error) {
	for try := 1; ; try++ {
		s.reads++
		answer, err := s.Read(ctx, path)
		switch {
		case errors.Is(err, ErrStop), ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case err == nil && answer.Status == http.StatusOK:
			return answer.Body, nil
		case err == nil && !again(answer.Status):
			return nil, answer.refusal()
		case err == nil:
			err = fmt.Errorf("Stripe answers %d", answer.Status)
		}
		if try == mostTries {
			return nil, fmt.Errorf("asked %d times: %w", try, err)
		}
		if err := pause(ctx, max(answer.RetryAfter, min(leastPause<<(try-1), mostPause))); err != nil {
			return nil, err
		}
	}
}

func again(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusConflict || status >= http.StatusInternalServerError || status < http.StatusOK
}

func (a Answer) refusal() error {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(a.Body, &body) // what is no JSON has no code
	switch {
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		return fmt.Errorf("Stripe answers %d: the key may not read meters or their sums; give it read permission for billing meters and billing meter event summaries", a.Status)
	case a.Status == http.StatusNotFound, body.Error.Code == "resource_missing":
		return fmt.Errorf("%w: %s", errMissing, body.Error.Message)
	}
	return fmt.Errorf("Stripe answers %d: %s %s", a.Status, body.Error.Code, body.Error.Message)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// summary is the sum of one window.
type summary struct {
	ID    string  `json:"id"`
	Value float64 `json:"aggregated_value"`
	Start int64   `json:"start_time"`
	End   int64   `json:"end_time"`
}

// mostSummaries bounds the pages of one question: a year of hours.
const mostSummaries = 100

// hours are the sums of one customer on one meter, by the hour's beginning. A customer whom Stripe
// does not know has none.
func (s *Stripe) hours(ctx context.Context, m meters.Meter, customer string, p Period) (map[int64]float64, error) {
	list, err := s.summaries(ctx, m, customer, p.Since.Unix(), p.Until.Unix(), "hour")
	sums := make(map[int64]float64, len(list))
	for _, u := range list {
		if u.Start%hour != 0 || u.End != u.Start+hour || !p.holds(u.Start) {
			return nil, fmt.Errorf("Stripe's sum of %s for %s is from %d to %d, which is no hour that was asked for", m.EventName, customer, u.Start, u.End)
		}
		sums[u.Start] = u.Value
	}
	return sums, err
}

// between is the one sum of a customer on a meter over whole minutes.
func (s *Stripe) between(ctx context.Context, m meters.Meter, customer string, start, end int64) (float64, error) {
	list, err := s.summaries(ctx, m, customer, start, end, "")
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Value, nil
}

func (s *Stripe) summaries(ctx context.Context, m meters.Meter, customer string, start, end int64, window string) ([]summary, error) {
	query := url.Values{
		"customer": {customer}, "limit": {"100"},
		"start_time": {strconv.FormatInt(start, 10)}, "end_time": {strconv.FormatInt(end, 10)},
	}
	if window != "" {
		query.Set("value_grouping_window", window)
	}
	var all []summary
	for range mostSummaries {
		body, err := s.ask(ctx, "/v1/billing/meters/"+url.PathEscape(m.ID)+"/event_summaries?"+query.Encode())
		if errors.Is(err, errMissing) && query.Get("starting_after") == "" {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("sums of %s for %s: %w", m.EventName, customer, err)
		}
		var page struct {
			Object  string    `json:"object"`
			Data    []summary `json:"data"`
			HasMore bool      `json:"has_more"`
		}
		if err := json.Unmarshal(body, &page); err != nil || page.Object != "list" {
			return nil, fmt.Errorf("sums of %s for %s: what answers is not Stripe's list of sums; check STRIPE_API_BASE and the proxy", m.EventName, customer)
		}
		all = append(all, page.Data...)
		if !page.HasMore || len(page.Data) == 0 {
			return all, nil
		}
		query.Set("starting_after", page.Data[len(page.Data)-1].ID)
	}
	return nil, fmt.Errorf("sums of %s for %s: the list does not end after %d pages", m.EventName, customer, mostSummaries)
}
