package reconcile

import "math/bits"

// mostOpen bounds the letters of one cell among which an assignment is looked for: 65,536 of them.
const mostOpen = 16

// assign says which of the weights make the target: those of the first assignment, and how many
// there are, 2 for more than one. Too many weights count as more than one.
func assign(weights []int64, target int64) (chosen []bool, ways int) {
	if len(weights) > mostOpen {
		return nil, 2
	}
	sums := make([]int64, 1<<len(weights))
	for mask := range sums {
		if mask > 0 {
			lowest := mask & -mask
			sums[mask] = sums[mask^lowest] + weights[bits.TrailingZeros(uint(mask))]
		}
		if sums[mask] != target {
			continue
		}
		if ways++; ways == 2 {
			return chosen, ways
		}
		chosen = make([]bool, len(weights))
		for i := range chosen {
			chosen[i] = mask>>i&1 == 1
		}
	}
	return chosen, ways
}
