package delivery

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// decisions has at least one row for each class.
var decisions = []struct {
	name string
	in   situation
	want decision
}{
	{"accepted", situation{answer: Answer{Class: Accepted}}, decision{do: deliver}},
	{"accepted beside other content", situation{answer: Answer{Class: Accepted}, otherContent: true}, decision{do: deliver}},

	{"duplicate, never sent by us", situation{answer: Answer{Class: Duplicate}}, decision{do: bury, reason: deadletter.IdentifierConflict}},
	{"duplicate, sent before", situation{answer: Answer{Class: Duplicate}, earlierSame: true}, decision{do: deliver}},
	{"duplicate, other content sent before", situation{answer: Answer{Class: Duplicate}, otherContent: true}, decision{do: bury, reason: deadletter.IdentifierConflict}},
	{"duplicate, both sent before", situation{answer: Answer{Class: Duplicate}, earlierSame: true, otherContent: true}, decision{do: bury, reason: deadletter.IdentifierConflict}},
	{"duplicate, foreign ones accepted", situation{answer: Answer{Class: Duplicate}, acceptForeign: true}, decision{do: deliver}},
	{"duplicate, foreign ones accepted, but the conflict is ours", situation{answer: Answer{Class: Duplicate}, acceptForeign: true, otherContent: true}, decision{do: bury, reason: deadletter.IdentifierConflict}},

	{"refused", situation{answer: Answer{Class: Refused}}, decision{do: bury, reason: deadletter.Rejected}},
	{"refused, to be retried says Stripe", situation{answer: Answer{Class: Refused, ShouldRetry: RetryYes}}, decision{do: bury, reason: deadletter.Rejected}},

	{"throttled", situation{answer: Answer{Class: Throttled}, streak: 1, random: 0.5}, decision{do: again, after: 100 * time.Millisecond}},
	{"throttled for the third time", situation{answer: Answer{Class: Throttled}, streak: 3, random: 0.5}, decision{do: again, after: 400 * time.Millisecond}},
	{"throttled for the thousandth time", situation{answer: Answer{Class: Throttled}, streak: 1000, spent: 99, random: 1}, decision{do: again, after: 30 * time.Second}},
	{"throttled, not to be retried says Stripe", situation{answer: Answer{Class: Throttled, ShouldRetry: RetryNo}, streak: 1, random: 1}, decision{do: again, after: 30 * time.Second}},
	{"throttled with Retry-After", situation{answer: Answer{Class: Throttled, RetryAfter: time.Minute}, streak: 9, random: 0.5}, decision{do: again, after: time.Minute + 100*time.Millisecond}},

	{"contended", situation{answer: Answer{Class: Contended}, streak: 1, random: 0.5}, decision{do: again, after: 25 * time.Millisecond}},
	{"contended for ever", situation{answer: Answer{Class: Contended}, streak: 500, spent: 99, random: 1}, decision{do: again, after: 5 * time.Second}},
	{"contended, not to be retried says Stripe", situation{answer: Answer{Class: Contended, ShouldRetry: RetryNo}, streak: 1, random: 1}, decision{do: again, after: 5 * time.Second}},

	{"server fault", situation{answer: Answer{Class: ServerFault}, spent: 1, streak: 1, random: 0.5}, decision{do: again, after: 250 * time.Millisecond}},
	{"second server fault", situation{answer: Answer{Class: ServerFault}, spent: 2, streak: 2, random: 0.5}, decision{do: again, after: 500 * time.Millisecond}},
	{"third server fault", situation{answer: Answer{Class: ServerFault}, spent: 3, streak: 3}, decision{do: bury, reason: deadletter.ServerError}},
	{"third server fault, to be retried says Stripe", situation{answer: Answer{Class: ServerFault, ShouldRetry: RetryYes}, spent: 3, streak: 3}, decision{do: bury, reason: deadletter.ServerError}},
	{"server fault, not to be retried says Stripe", situation{answer: Answer{Class: ServerFault, ShouldRetry: RetryNo}, spent: 1}, decision{do: bury, reason: deadletter.ServerError}},
	{"server fault with Retry-After", situation{answer: Answer{Class: ServerFault, RetryAfter: 9 * time.Second}, spent: 1, random: 1}, decision{do: again, after: 9500 * time.Millisecond}},

	{"unexpected", situation{answer: Answer{Class: Unexpected}, spent: 1, streak: 1, random: 0.5}, decision{do: again, after: 250 * time.Millisecond}},
	{"third unexpected", situation{answer: Answer{Class: Unexpected}, spent: 3}, decision{do: bury, reason: deadletter.UnexpectedResponse}},
	{"unexpected, not to be retried says Stripe", situation{answer: Answer{Class: Unexpected, ShouldRetry: RetryNo}, spent: 1}, decision{do: bury, reason: deadletter.UnexpectedResponse}},
	{"a class nobody knows", situation{answer: Answer{Class: 250}, spent: 1, streak: 1, random: 0.5}, decision{do: again, after: 250 * time.Millisecond}},
	{"a class nobody knows, spent", situation{answer: Answer{Class: 250}, spent: 3}, decision{do: bury, reason: deadletter.UnexpectedResponse}},

	{"no answer", situation{answer: Answer{Class: NoAnswer}, streak: 1, random: 0.5}, decision{do: again, after: 100 * time.Millisecond}},
	{"no answer, fifty times", situation{answer: Answer{Class: NoAnswer}, spent: 2, streak: 50, random: 1}, decision{do: again, after: 30 * time.Second}},
	{"not sent", situation{answer: Answer{Class: NotSent}, streak: 1, random: 0.5}, decision{do: again, after: 50 * time.Millisecond}},
	{"not sent, fifty times", situation{answer: Answer{Class: NotSent}, streak: 50, random: 1}, decision{do: again, after: 10 * time.Second}},
	{"set-up", situation{answer: Answer{Class: SetupFault}}, decision{do: halt}},
	{"set-up, spent", situation{answer: Answer{Class: SetupFault}, spent: 99}, decision{do: halt}},
	{"foreign reply", situation{answer: Answer{Class: ForeignReply}}, decision{do: halt}},

	{"stopped", situation{answer: Answer{Class: NotSent}, refusal: refusedStopped}, decision{do: release}},
	{"past the safe window", situation{answer: Answer{Class: NotSent}, refusal: refusedAmbiguous}, decision{do: bury, reason: deadletter.Ambiguous}},
	{"only the intent is old", situation{answer: Answer{Class: NotSent}, refusal: refusedStale}, decision{do: renew}},
	{"the key has changed", situation{answer: Answer{Class: NotSent}, refusal: refusedOutdated, random: 1}, decision{do: again}},
	{"a refusal wins over the answer", situation{answer: Answer{Class: NoAnswer}, refusal: refusedStopped, streak: 1}, decision{do: release}},
}

func TestDecide(t *testing.T) {
	for _, row := range decisions {
		t.Run(row.name, func(t *testing.T) { check(t, "decision", decide(row.in), row.want) })
	}
}

// TestClassCensus fails when a class or refusal is added without its rows.
func TestClassCensus(t *testing.T) {
	classes := Classes()
	check(t, "classes", Class(len(classes)), ForeignReply)
	for i, c := range classes {
		check(t, "number of "+c.String(), c, Class(i+1))
		decided := slices.ContainsFunc(decisions, func(row struct {
			name string
			in   situation
			want decision
		},
		) bool {
			return row.in.refusal == notRefused && row.in.answer.Class == c
		})
		if !decided {
			t.Errorf("class %v has no row in decisions", c)
		}
		if _, ok := classFacts[c]; !ok {
			t.Errorf("class %v has no row in classFacts", c)
		}
		if c.String() == "unclassified" {
			t.Errorf("class %d has no name", c)
		}
	}
	check(t, "a class after the last", (ForeignReply + 1).String(), "unclassified")
	for r := notRefused + 1; r <= refusedOutdated; r++ {
		if !slices.ContainsFunc(decisions, func(row struct {
			name string
			in   situation
			want decision
		},
		) bool {
			return row.in.refusal == r
		}) {
			t.Errorf("refusal %d has no row", r)
		}
	}
}

// classFacts is what each class says beside the decision.
var classFacts = map[Class]struct{ mayHaveCounted, provesKey, blamesSetup bool }{
	Accepted:     {false, true, false},
	Duplicate:    {false, true, false},
	Refused:      {false, true, false},
	Throttled:    {false, true, false},
	Contended:    {false, true, false},
	ServerFault:  {true, false, false},
	Unexpected:   {true, false, false},
	NoAnswer:     {true, false, false},
	NotSent:      {false, false, false},
	SetupFault:   {false, false, true},
	ForeignReply: {true, false, true},
}

func TestClassFacts(t *testing.T) {
	for c, want := range classFacts {
		check(t, c.String()+" may have counted", c.MayHaveCounted(), want.mayHaveCounted)
		check(t, c.String()+" proves the key", c.provesKey(), want.provesKey)
		check(t, c.String()+" blames the set-up", c.blamesSetup(), want.blamesSetup)
		check(t, c.String()+" halts", decide(situation{answer: Answer{Class: c}}).do == halt, want.blamesSetup)
	}
	check(t, "an unknown class may have counted", Class(99).MayHaveCounted(), true)
}

func anySituation(t *rapid.T) situation {
	return situation{
		answer: Answer{
			Class:       Class(rapid.IntRange(0, 15).Draw(t, "class")),
			RetryAfter:  time.Duration(rapid.Int64Range(0, int64(300*time.Second)).Draw(t, "retry after")),
			ShouldRetry: Retry(rapid.IntRange(0, 2).Draw(t, "should retry")),
			Status:      rapid.IntRange(0, 999).Draw(t, "status"),
		},
		refusal:       refusal(rapid.IntRange(0, int(refusedOutdated)).Draw(t, "refusal")),
		spent:         rapid.IntRange(0, 10).Draw(t, "spent"),
		streak:        rapid.IntRange(0, 100000).Draw(t, "streak"),
		earlierSame:   rapid.Bool().Draw(t, "earlier"),
		otherContent:  rapid.Bool().Draw(t, "other"),
		acceptForeign: rapid.Bool().Draw(t, "accept"),
		random:        rapid.Float64Range(0, 1).Draw(t, "random"),
	}
}

func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySituation(t)
		got := decide(s)
		if got != decide(s) {
			t.Fatal("not deterministic")
		}
		if got.do < deliver || got.do > halt {
			t.Fatalf("no action: %v", got)
		}
		if (got.do == bury) != got.reason.Valid() {
			t.Fatalf("a reason is there exactly where something is buried: %v", got)
		}
		if got.do != again && got.after != 0 || got.after < 0 {
			t.Fatalf("a delay belongs to again: %v", got)
		}
		if s.refusal != notRefused {
			return
		}
		switch s.answer.Class {
		case Throttled, Contended, NoAnswer, NotSent:
			if got.do != again {
				t.Fatalf("%v is always tried again: %v", s.answer.Class, got)
			}
		case ServerFault, Unexpected:
			if s.spent >= MaxAttempts && got.do != bury {
				t.Fatalf("%d attempts are spent: %v", s.spent, got)
			}
		case Accepted, Duplicate, Refused, SetupFault, ForeignReply:
			if got.do == again {
				t.Fatalf("%v is final: %v", s.answer.Class, got)
			}
		}
	})
}

func TestPauseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySituation(t)
		got := s.pause()
		row, ok := backoffs[s.answer.Class]
		if !ok {
			row = backoffs[Unexpected]
		}
		if after := s.answer.RetryAfter; after > 0 {
			if got < after || got > after+row.base {
				t.Fatalf("pause %v, Retry-After %v", got, after)
			}
			return
		}
		ceiling := row.most
		if s.answer.ShouldRetry != RetryNo && s.streak >= 1 && s.streak < 10 {
			ceiling = min(row.most, row.base<<(s.streak-1))
		}
		if got < 0 || got > ceiling {
			t.Fatalf("pause %v is not within [0, %v]", got, ceiling)
		}
		s.random = 1
		if full := s.pause(); full != ceiling && s.streak >= 1 && s.streak < 10 {
			t.Fatalf("the jitter is full: %v at most, want %v", full, ceiling)
		}
		s.random = 0
		if s.pause() != 0 {
			t.Fatal("the jitter begins at 0")
		}
	})
}
