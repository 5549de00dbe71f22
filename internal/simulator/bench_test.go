package simulator

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
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
