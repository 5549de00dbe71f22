package simulator

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLedger enters b.N events of 10,000 customers and reports the bytes
// that each keeps.
func BenchmarkLedger(b *testing.B) {
	l := newLedger(ScopeCustomer, 24*time.Hour)
	before := heap()
	b.ResetTimer()
	for i := range b.N {
		e := event{
			name: "api_calls", customer: fmt.Sprintf("cus_%d", i%10_000), identifier: fmt.Sprintf("identifier-%020d", i),
			timestamp: start.Unix() + int64(i/1000), value: 1,
		}
		l.enter(e, false, start, func() bool { return false })
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "kept-B/event")
	runtime.KeepAlive(l)
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkEvent is one event through the handler, without a network.
func BenchmarkEvent(b *testing.B) {
	s := New(Config{Rate: -1})
	for i := range b.N {
		form := url.Values{
			"event_name": {"api_calls"}, "identifier": {fmt.Sprint(i)}, "timestamp": {unix(s.Now())},
			"payload[stripe_customer_id]": {fmt.Sprintf("cus_%d", i%10_000)}, "payload[value]": {"1"},
		}
		r := httptest.NewRequest(http.MethodPost, pathEvents, strings.NewReader(form.Encode()))
		r.Header = http.Header{
			"Authorization": {"Bearer " + testKey}, "Stripe-Version": {DefaultVersion},
			"Content-Type": {formType}, "Idempotency-Key": {fmt.Sprint(i)},
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkServer is the same over loopback, Go's client on the same cores
// included.
func BenchmarkServer(b *testing.B) {
	server := httptest.NewServer(New(Config{Rate: -1}))
	defer server.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var serial atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprint(serial.Add(1))
			form := url.Values{
				"event_name": {"api_calls"}, "identifier": {id}, "timestamp": {unix(time.Now())},
				"payload[stripe_customer_id]": {"cus_" + id}, "payload[value]": {"1"},
			}
			r, err := http.NewRequest(http.MethodPost, server.URL+pathEvents, strings.NewReader(form.Encode()))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header = http.Header{
				"Authorization": {"Bearer " + testKey}, "Stripe-Version": {DefaultVersion},
				"Content-Type": {formType}, "Idempotency-Key": {id},
			}
			response, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				b.Errorf("status %d", response.StatusCode)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
