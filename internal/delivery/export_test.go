package delivery

import "fmt"

// Decision is what is decided on the last of n such answers in a row, for an event of
// which no other attempt is known: the word for it, the reason of a burial, and the
// least delay of another try where Stripe has named one.
func Decision(a Answer, n int) string {
	d := decide(situation{answer: a, spent: n, streak: n})
	words := map[action]string{deliver: "deliver", bury: "bury", again: "again", renew: "renew", release: "release", halt: "halt"}
	text := words[d.do]
	if d.reason != "" {
		text += " " + string(d.reason)
	}
	if d.after > 0 {
		text += fmt.Sprintf(" in %s", d.after)
	}
	return text
}
