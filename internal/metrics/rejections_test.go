package metrics

import (
	"fmt"
	"maps"
	"testing"
)

// Codes and event names come from outside: neither grows without bound.
func TestRejections(t *testing.T) {
	s := New(labels)
	s.Rejected("no_meter", true, 3)
	s.Rejected("brand_new", false, 4)
	s.Rejected("", false, 1)
	s.Unnamed("", 7)
	for i := range MaxEventNames + 5 {
		s.Unnamed(fmt.Sprint("meter_", i), 1)
	}
	codes := map[string]float64{}
	for _, one := range gather(t, s)["rejected_later_total"] {
		codes[one.labels["code"]] = one.value
	}
	if want := map[string]float64{"no_meter": 3, "other": 5}; !maps.Equal(codes, want) {
		t.Errorf("codes %v, want %v", codes, want)
	}
	names, other := 0, 0.0
	for _, one := range gather(t, s)["rejected_unnamed_total"] {
		names++
		if one.labels["event_name"] == "other" {
			other = one.value
		}
	}
	if names != MaxEventNames+1 || other != 12 {
		t.Errorf("%d names, %v under other", names, other)
	}
}
