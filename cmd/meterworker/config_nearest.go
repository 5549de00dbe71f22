package main

// nearest is the candidate with the smallest edit distance to word, or "" when
// none is near enough to be what was meant: less than half of word may differ.
func nearest(word string, candidates []string) string {
	const longest = 64 // nobody mistypes more; bounds the work on a hostile file
	if len(word) > longest {
		return ""
	}
	best, bound := "", (len(word)+1)/2
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bound {
			best, bound = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
