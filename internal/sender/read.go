package sender

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxReading bounds the body of a reading: a report with 100,000 samples has some 20 MB.
const maxReading = 32 << 20

// Reading is Stripe's answer to a question.
type Reading struct {
	Status     int
	Body       []byte
	Date       time.Time     // Stripe's clock, in whole seconds; zero where it is not said
	Throttled  bool          // a 429 for the account's rate
	RetryAfter time.Duration // 0 where it is not said
}

// Read asks Stripe for an object, once: path begins with a slash. An error means that there
// was no whole answer. The caller holds a permit.
func (v *V1) Read(ctx context.Context, path string) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*v.timeout) // to connect, and to answer
	defer cancel()
	request, err := v.question(ctx, path)
	if err != nil {
		return Reading{}, err
	}
	response, err := v.transport.RoundTrip(request) // no redirect is followed: the key would go with it
	if err != nil {
		return Reading{}, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReading+1))
	if err == nil && len(body) > maxReading {
		err = fmt.Errorf("the answer has more than %d bytes", maxReading)
	}
	if err != nil {
		return Reading{}, fmt.Errorf("read %s: %w", path, err)
	}
	reason := response.Header.Get("Stripe-Rate-Limited-Reason")
	return Reading{
		Status: response.StatusCode, Body: body, Date: date(response.Header.Get("Date")),
		Throttled:  response.StatusCode == http.StatusTooManyRequests && strings.HasSuffix(reason, "-rate"),
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
	}, nil
}

func (v *V1) question(ctx context.Context, path string) (*http.Request, error) {
	live := v.live()
	key, err := ParseKey(v.key())
	if err == nil && key.Live() != live {
		err = fmt.Errorf("the key %v is of the other mode; this worker needs a %s key", key, modeName(live))
	}
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(v.base, "/")+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	request.Header.Set("Authorization", "Bearer "+key.Reveal())
	request.Header.Set("Stripe-Version", v.version)
	return request, nil
}
