package simulator

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func identifiers(findings []Finding) []string {
	names := []string{}
	for _, f := range findings {
		names = append(names, f.Identifier)
	}
	return names
}

// TestCheckNamesEveryDifference bills through the front door what a broken sender
// would: one event lost, one doubled past the memory, one nobody published, one
// with another value, one refused after its 200, one for two customers.
func TestCheckNamesEveryDifference(t *testing.T) {
	b := newBench(t, Config{})
	for _, id := range []string{"good-1", "good-2", "doubled", "nobody's"} {
		b.want(b.send(id), 200, "")
	}
	b.want(b.send("other-units", "payload[value]", "7"), 200, "")
	b.want(b.send("two-customers"), 200, "")
	b.want(b.send("two-customers", "payload[stripe_customer_id]", "cus_2"), 200, "")
	b.inject(Fault{Kind: RejectedLater, Identifier: "refused-later"})
	b.want(b.send("refused-later"), 200, "")
	b.Advance(24 * time.Hour)
	b.want(b.send("doubled"), 200, "")

	report := b.Books().Check(map[string]int64{
		"good-1": 1, "good-2": 1, "doubled": 1, "lost": 5, "other-units": 6, "two-customers": 1, "refused-later": 1,
	})
	for _, list := range []struct {
		name string
		got  []Finding
		want []string
	}{
		{"lost", report.Lost, []string{"lost", "refused-later"}},
		{"doubled", report.Doubled, []string{"doubled", "two-customers"}},
		{"unexpected", report.Unexpected, []string{"nobody's"}},
		{"different", report.Different, []string{"other-units"}},
	} {
		if got := identifiers(list.got); !reflect.DeepEqual(got, list.want) {
			t.Errorf("%s: %v, want %v", list.name, got, list.want)
		}
	}
	if report.Balanced() {
		t.Error("balanced")
	}
	if f := report.Different[0]; f.ExpectedUnits != 6 || f.CountedUnits != 7 {
		t.Errorf("different: %+v", f)
	}
	if f := report.Lost[1]; f.RefusedLater != 1 || f.Times != 0 {
		t.Errorf("refused later: %+v", f)
	}
	if report.Expected != 7 || report.Counted != 6 || report.ExpectedUnits != 16 || report.CountedUnits != 14 {
		t.Errorf("sums: %+v", report)
	}
	text := report.String()
	for _, name := range []string{"lost", "refused-later", "doubled", "two-customers", "nobody's", "other-units"} {
		if !strings.Contains(text, fmt.Sprintf("%q", name)) {
			t.Errorf("%s is not named in\n%s", name, text)
		}
	}
}

func TestCheckOfBalancedBooks(t *testing.T) {
	b := newBench(t, Config{})
	expected := map[string]int64{}
	for i := range 5 {
		id := fmt.Sprintf("id-%d", i)
		b.send(id, "payload[value]", fmt.Sprint(i-2))
		b.send(id, "payload[value]", fmt.Sprint(i-2)) // a duplicate is no double bill
		expected[id] = int64(i - 2)
	}
	report := b.Books().Check(expected)
	if !report.Balanced() || report.Counted != 5 || report.CountedUnits != 0 {
		t.Errorf("report %s", report)
	}
	if text, err := json.Marshal(report); err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%s, %v", text, err)
	}
	if report := New(Config{}).Books().Check(nil); !report.Balanced() {
		t.Errorf("nothing expected and nothing counted: %s", report)
	}
}

// TestCheckEventsTellsCustomersApart: by identifier the sums agree, and yet the
// wrong customer was billed.
func TestCheckEventsTellsCustomersApart(t *testing.T) {
	b := newBench(t, Config{})
	b.send("id-1", "payload[stripe_customer_id]", "cus_2")
	books := b.Books()
	if !books.Check(map[string]int64{"id-1": 1}).Balanced() {
		t.Error("by identifier the books do not balance")
	}
	expected := Event{EventName: "api_calls", Customer: "cus_1", Identifier: "id-1"}
	report := books.CheckEvents(map[Event]int64{expected: 1})
	if len(report.Lost) != 1 || report.Lost[0].Event != expected ||
		len(report.Unexpected) != 1 || report.Unexpected[0].Customer != "cus_2" {
		t.Errorf("report %s", report)
	}
}

func TestHours(t *testing.T) {
	b := newBench(t, Config{})
	at := func(d time.Duration) string { return unix(start.Add(d)) }
	b.send("a", "payload[value]", "5", "timestamp", at(0))
	b.send("b", "payload[value]", "-2", "timestamp", at(-time.Second))
	b.send("c", "payload[value]", "3", "timestamp", at(-59*time.Minute))
	b.send("d", "payload[value]", "9", "timestamp", at(0), "payload[stripe_customer_id]", "cus_0")
	want := []Hour{
		{EventName: "api_calls", Customer: "cus_0", Start: start, Units: 9, Events: 1},
		{EventName: "api_calls", Customer: "cus_1", Start: start.Add(-time.Hour), Units: 1, Events: 2},
		{EventName: "api_calls", Customer: "cus_1", Start: start, Units: 5, Events: 1},
	}
	if got := b.Books().Hours; !reflect.DeepEqual(got, want) {
		t.Errorf("hours %+v", got)
	}
}

func TestVersionsAreTalliedWithABound(t *testing.T) {
	tallies := newTallies()
	for i := range maxVersions + 5 {
		tallies.arrived(fmt.Sprint(i))
	}
	versions := tallies.snapshot().Versions
	if len(versions) != maxVersions+1 || versions["0"] != 1 || versions["others"] != 5 {
		t.Errorf("versions %v", versions)
	}
}
