package replay

import "testing"

func TestRejectedLater(t *testing.T) {
	for id, want := range map[string]uint64{
		"dlq-e-17-rejected_later": 17, "dlq-e-17-rejected": 0, "dlq-x-17-rejected_later": 0, "dlq-e-x-rejected_later": 0, "dlq-e-17": 0, "": 0,
	} {
		if got, ok := RejectedLater(id, "e"); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d, %v", id, got, ok)
		}
	}
}
