package delivery

import "time"

// trials decides whose message finds out, while half-open, whether Stripe is back.
//
// In an outage of Stripe it is one that may have been counted already: each further
// message that a failing Stripe has seen becomes ambiguous when the outage outlasts the
// safe window. But where the trouble may be a few customers' own, their messages must
// not keep everybody out: then others go first, always when few lanes have failed or
// Stripe has answered anybody since, else at the first, second, fourth, eighth … trial.
type trials struct {
	few    bool            // the trouble is that of few lanes
	losers map[string]bool // lanes whose event has failed
	failed int             // trials
}

// maxLosers bounds the memory of lanes.
const maxLosers = 1000

// othersFirst is how long a message waits for one that should rather be tried.
const othersFirst = 2 * time.Second

func (t *trials) lose(lanes ...string) {
	for _, lane := range lanes {
		if len(t.losers) < maxLosers {
			t.losers[lane] = true
		}
	}
}

// othersNext reports whether the next trial is for lanes that have not failed.
func (t *trials) othersNext() bool {
	return t.few || t.failed > 0 && t.failed&(t.failed-1) == 0
}

// patience is how long a message of the lane lets others go first. doubtful: it may have
// been counted already.
func (t *trials) patience(lane string, doubtful bool) time.Duration {
	switch others := t.othersNext(); {
	case others && !t.losers[lane], !others && doubtful:
		return 0
	case others && !doubtful:
		return 2 * othersFirst
	default:
		return othersFirst
	}
}

// places is how many of a partition's messages may be in hand, of as many as there are
// otherwise: more after each failed trial where others are looked for behind those that
// fail.
func (t *trials) places(otherwise int) int {
	if !t.othersNext() {
		return min(otherwise, 1)
	}
	return min(otherwise, 1<<min(max(t.failed-1, 0), 6))
}
