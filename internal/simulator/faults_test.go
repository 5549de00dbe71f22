package simulator

import (
	"fmt"
	"strings"
	"testing"
)

func TestFaultScripts(t *testing.T) {
	only := func(change func(*Fault)) Fault {
		f := Fault{Kind: Error503}
		change(&f)
		return f
	}
	// Each sends six events, a to f, of customers cus_1 and cus_2 in turn.
	tests := []struct {
		name   string
		faults []Fault
		failed string
	}{
		{"always", []Fault{only(func(*Fault) {})}, "abcdef"},
		{"two", []Fault{only(func(f *Fault) { f.Times = 2 })}, "ab"},
		{"after three", []Fault{only(func(f *Fault) { f.Skip = 3 })}, "def"},
		{"two after one", []Fault{only(func(f *Fault) { f.Skip, f.Times = 1, 2 })}, "bc"},
		{"customer", []Fault{only(func(f *Fault) { f.Customer = "cus_2" })}, "bdf"},
		{"customer, after one", []Fault{only(func(f *Fault) { f.Customer, f.Skip = "cus_2", 1 })}, "df"},
		{"identifier", []Fault{only(func(f *Fault) { f.Identifier = "c" })}, "c"},
		{"event name", []Fault{only(func(f *Fault) { f.EventName = "api_calls" })}, "abcdef"},
		{"other event name", []Fault{only(func(f *Fault) { f.EventName = "tokens" })}, ""},
		{"customer and identifier that do not meet", []Fault{only(func(f *Fault) { f.Customer, f.Identifier = "cus_2", "a" })}, ""},
		{"path", []Fault{only(func(f *Fault) { f.Path = "/v1/billing" })}, "abcdef"},
		{"other path", []Fault{only(func(f *Fault) { f.Path = "/v1/account" })}, ""},
		{"two scripts", []Fault{only(func(f *Fault) { f.Times = 1 }), only(func(f *Fault) { f.Skip, f.Times = 1, 1 })}, "ac"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			b.inject(tt.faults...)
			var failed strings.Builder
			for i, id := range strings.Split("abcdef", "") {
				if b.send(id, "payload[stripe_customer_id]", fmt.Sprintf("cus_%d", 1+i%2)).status == 503 {
					failed.WriteString(id)
				}
			}
			if failed.String() != tt.failed {
				t.Errorf("failed %q, want %q", failed.String(), tt.failed)
			}
			b.ClearFaults()
			b.want(b.send("g"), 200, "")
		})
	}
}

func TestProbabilityFollowsTheSeed(t *testing.T) {
	draw := func(seed uint64, faults ...Fault) string {
		b := newBench(t, Config{Seed: seed})
		b.inject(faults...)
		var pattern strings.Builder
		for i := range 200 {
			fmt.Fprint(&pattern, b.send(fmt.Sprint(i)).status/100)
		}
		return pattern.String()
	}
	half := Fault{Kind: Error503, Probability: 0.5}
	first := draw(1, half)
	if again := draw(1, half); again != first {
		t.Errorf("the same seed drew\n%s and\n%s", first, again)
	}
	if other := draw(2, half); other == first {
		t.Error("another seed drew the same")
	}
	if n := strings.Count(first, "5"); n < 70 || n > 130 {
		t.Errorf("%d of 200 failed at a probability of a half", n)
	}
	if with := draw(1, half, Fault{Kind: Error520, Customer: "cus_9"}); with != first {
		t.Error("a fault that matches nothing changed another's draws")
	}
}

func TestInjectRefusesASlip(t *testing.T) {
	s := New(Config{})
	for name, f := range map[string]Fault{
		"no kind":                    {},
		"unknown kind":               {Kind: "error_501"},
		"recorded refusal":           {Kind: Unauthorized, Recorded: true},
		"recorded 429":               {Kind: RateLimited, Recorded: true},
		"probability above 1":        {Kind: Cut, Probability: 1.5},
		"negative probability":       {Kind: Cut, Probability: -0.5},
		"negative times":             {Kind: Cut, Times: -1},
		"negative skip":              {Kind: Cut, Skip: -1},
		"negative delay":             {Kind: Hang, DelayMillis: -1},
		"path without slash":         {Kind: Cut, Path: "v1"},
		"line break in a header":     {Kind: Error503, RetryAfter: "1\r\nX: y"},
		"redirect without a target":  {Kind: Redirect},
		"redirect to a path":         {Kind: Redirect, Location: "/v1"},
		"redirect with another code": {Kind: Redirect, Location: "https://a.example", Status: 200},
		"refusal with a 500":         {Kind: Refused, Status: 500},
		"status of a kind's own":     {Kind: Error503, Status: 502},
	} {
		if err := s.Inject(Fault{Kind: Cut}, f); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if armed := s.Faults(); len(armed) != 0 {
		t.Errorf("a refused list left %v", armed)
	}
}

func TestFaultsShowsWhatTheyDid(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: Error503, Customer: "cus_1", Skip: 1, Times: 5})
	for _, id := range []string{"a", "b", "c"} {
		b.send(id)
	}
	if armed := b.Faults(); len(armed) != 1 || armed[0].Matched != 3 || armed[0].Played != 2 {
		t.Errorf("armed %+v", armed)
	}
}
