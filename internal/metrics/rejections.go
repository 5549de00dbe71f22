package metrics

import "github.com/prometheus/client_golang/prometheus"

// otherCode counts the rejection codes that are not on the closed list: Stripe's list is open.
const otherCode = "other"

// Rejections are the metrics of what Stripe says later.
type Rejections struct {
	Webhooks *prometheus.CounterVec // result

	rejected *prometheus.CounterVec // code
	unnamed  *prometheus.CounterVec // event_name
}

func (s *Set) rejections(f factory) {
	s.Webhooks = f.counters("webhook_requests_total", "Requests to the webhook endpoint, by what became of them.", "result")
	s.rejected = f.counters("rejected_later_total", "Events that Stripe accepted and reported as rejected later, by its code.", "code")
	s.unnamed = f.counters("rejected_unnamed_total", "Of those, the ones that could not be found in the outbox.", "event_name")
}

func (s *Set) touchRejections(labels Labels) {
	for _, r := range labels.WebhookResults {
		s.Webhooks.WithLabelValues(r)
	}
	for _, c := range append([]string{otherCode}, labels.RejectionCodes...) {
		s.rejected.WithLabelValues(c)
	}
	s.unnamed.WithLabelValues("other")
}

// Rejected counts events that Stripe rejected after it had accepted them. known: the code
// is on the closed list.
func (s *Set) Rejected(code string, known bool, n int) {
	if !known {
		code = otherCode
	}
	s.rejected.WithLabelValues(code).Add(float64(n))
}

// Unnamed counts those of them that nobody can name.
func (s *Set) Unnamed(eventName string, n int) {
	s.unnamed.WithLabelValues(s.label(eventName)).Add(float64(n))
}
