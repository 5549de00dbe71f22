package chaos

import (
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
)

// verdict is what became of the messages of a test: the classes of Jepsen's set
// test, with what is ours beside them.
type verdict struct {
	Attempted    int   `json:"attempted"`    // messages
	Acknowledged int   `json:"acknowledged"` // stored, as far as their producer knows
	Unconfirmed  int   `json:"unconfirmed"`  // their producer gave up
	Billed       int   `json:"billed"`       // events that Stripe counted
	Units        int64 `json:"units"`
	Recovered    int   `json:"recovered"` // of the unconfirmed: stored, and billed
	Repeated     int   `json:"repeated"`  // copies that were neither billed nor buried
	Letters      int   `json:"dead_letters"`

	Lost       []string `json:"lost"`       // acknowledged, and neither billed nor a dead letter
	Doubled    []string `json:"doubled"`    // billed twice
	Unexpected []string `json:"unexpected"` // billed, and should not have been
	Different  []string `json:"different"`  // billed with other units
	Stray      []string `json:"stray"`      // dead letters that are missing, twice, or of what should not be dead
}

// balanced reports whether every message came to the end that was planned for it and
// nothing else happened.
func (v verdict) balanced() bool {
	return len(v.Lost)+len(v.Doubled)+len(v.Unexpected)+len(v.Different)+len(v.Stray) == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("%d attempted, %d acknowledged, %d unconfirmed (%d recovered), %d billed, %d dead letters: lost %d %q, doubled %d %q, unexpected %d %q, different %d %q, stray letters %d %q",
		v.Attempted, v.Acknowledged, v.Unconfirmed, v.Recovered, v.Billed, v.Letters, len(v.Lost), first(v.Lost), len(v.Doubled), first(v.Doubled),
		len(v.Unexpected), first(v.Unexpected), len(v.Different), first(v.Different), len(v.Stray), first(v.Stray))
}

// first is enough to begin with.
func first(list []string) []string { return list[:min(len(list), 9)] }

// judge compares the messages with Stripe's books and the dead letters.
func judge(messages []*message, books simulator.Books, letters []jetstream.Msg) verdict {
	j := judgement{
		letters: map[string]int{}, sequences: map[string]bool{},
		counted: map[simulator.Event]bool{}, want: map[simulator.Event]int64{},
		verdict: verdict{Lost: []string{}, Doubled: []string{}, Unexpected: []string{}, Different: []string{}, Stray: []string{}},
	}
	for _, e := range books.Events {
		j.counted[e.Event] = e.Times > 0
	}
	for _, letter := range letters {
		j.letter(letter)
	}
	for _, m := range messages {
		j.message(m)
	}
	for key, n := range j.letters {
		j.stray("%d letters too many for %s", n, key)
	}
	j.books(books)
	return j.verdict
}

type judgement struct {
	verdict

	letters   map[string]int  // not explained yet, by reason, subject and body
	sequences map[string]bool // of messages that have a letter
	counted   map[simulator.Event]bool
	want      map[simulator.Event]int64
}

func (j *judgement) stray(format string, args ...any) {
	j.Stray = append(j.Stray, fmt.Sprintf(format, args...))
}

func (j *judgement) letter(letter jetstream.Msg) {
	h := letter.Headers()
	j.Letters++
	j.letters[letterKey(h.Get("Meterworker-Reason"), h.Get("Meterworker-Subject"), letter.Data())]++
	if sequence := h.Get("Meterworker-Sequence"); j.sequences[sequence] {
		j.stray("a second live letter for sequence %s", sequence)
	} else {
		j.sequences[sequence] = true
	}
}

func letterKey(reason, subject string, body []byte) string {
	return fmt.Sprintf("%s %s %s", reason, subject, body)
}

// take explains one letter by a message; it reports whether there is one.
func (j *judgement) take(m *message) bool {
	key := letterKey(m.reason, m.subject, m.body)
	if j.letters[key] == 0 {
		return false
	}
	if j.letters[key]--; j.letters[key] == 0 {
		delete(j.letters, key)
	}
	return true
}

func (j *judgement) message(m *message) {
	j.Attempted++
	switch m.known {
	case unpublished:
	case confirmed:
		j.Acknowledged++
	case unconfirmed:
		j.Unconfirmed++
	}
	switch m.fate {
	case billed, repeated:
		j.event(m)
	case contested:
		j.contest(m)
	case buried:
		if !j.take(m) {
			j.stray("no letter %s for %s", m.reason, m.body)
		}
	}
}

// event is to be billed if it is stored; what is unconfirmed may be.
func (j *judgement) event(m *message) {
	_, wanted := j.want[m.entry()]
	switch {
	case wanted && m.fate == repeated:
		j.Repeated++
	case m.known == confirmed, j.counted[m.entry()]:
		j.want[m.entry()] = m.event.Units()
	}
	if m.known == unconfirmed && j.counted[m.entry()] {
		j.Recovered++
	}
}

// contest wants the message billed unless it is the one that has the letter. Both
// buried is a loss, none a stray.
func (j *judgement) contest(m *message) {
	if j.take(m) {
		if _, rival := j.want[m.entry()]; !rival {
			j.want[m.entry()] = m.rival.event.Units()
		}
		return
	}
	if units, taken := j.want[m.entry()]; taken && units != m.event.Units() {
		j.stray("no letter for either of %q", m.event.Identifier())
		return
	}
	j.want[m.entry()] = m.event.Units()
}

func (j *judgement) books(books simulator.Books) {
	report := books.CheckEvents(j.want)
	j.Billed, j.Units = report.Counted, report.CountedUnits
	for list, findings := range map[*[]string][]simulator.Finding{
		&j.Lost: report.Lost, &j.Doubled: report.Doubled, &j.Unexpected: report.Unexpected, &j.Different: report.Different,
	} {
		for _, f := range findings {
			*list = append(*list, f.Identifier)
		}
	}
	slices.Sort(j.Stray)
}
