package journal

import (
	"errors"
	"testing"
)

// A machine that slept, or whose clock was set, gives its partitions up: the claim
// related clocks that do not exist any more.
func TestPartedClocksEndThePartition(t *testing.T) {
	w := writer{p: &Partition{clock: claimedAt(noon, 0)}} // by another monotonic clock than ours
	if err := w.upkeep(t.Context(), nil); !errors.Is(err, ErrClocks) {
		t.Errorf("%v, want ErrClocks", err)
	}
}
