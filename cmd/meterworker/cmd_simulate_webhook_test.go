package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What the simulator rejects later it tells the endpoint, signed, and still ends when it is told to.
func TestSimulateDeliversWebhooks(t *testing.T) {
	bodies := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Count(r.Header.Get("Stripe-Signature"), ",v1=") != 2 {
			t.Errorf("signature %q, want one for each secret", r.Header.Get("Stripe-Signature"))
		}
		bodies <- r.URL.Path + " " + string(body)
	}))
	defer endpoint.Close()
	s := simulate(t, "--meter", "tokens", "--webhook-url", endpoint.URL+"/webhooks", "--webhook-secret", "whsec_a", "--webhook-secret", "whsec_b")
	if status := s.send(t, "no_such_meter", "id-1"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/_simulator/clock", strings.NewReader(`{"advance":"11s"}`))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("advance: %v, %v", response, err)
	}
	_ = response.Body.Close()
	select {
	case body := <-bodies:
		if !strings.HasPrefix(body, "/webhooks {") || !strings.Contains(body, "v1.billing.meter.no_meter_found") {
			t.Errorf("delivered %s", body)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing was delivered")
	}
	if code, rest := s.end(); code != 0 || !strings.Contains(rest, "refused later 1") {
		t.Errorf("exit %d, %s", code, rest)
	}
}
