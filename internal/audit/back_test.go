package audit

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// back is the notes of the records, newest first.
func (t *Trail) back(tt *testing.T, f Filter, before uint64) []string {
	tt.Helper()
	var notes []string
	if err := t.Back(tt.Context(), f, before, func(r Record) error { notes = append(notes, r.Note); return nil }); err != nil {
		tt.Fatal(err)
	}
	return notes
}

func TestBack(t *testing.T) {
	trail, js := newTrail(t)
	if got := trail.back(t, Filter{}, 0); len(got) > 0 {
		t.Errorf("an empty trail: %q", got)
	}
	for i := range 5 {
		action := []Action{Replay, Pause}[i%2]
		if err := trail.Begin(action, ann, "", nil).Intent(t.Context(), Record{Note: fmt.Sprint(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	third := trail.all(t, Filter{})[2].StoredAt
	for _, tt := range []struct {
		name   string
		filter Filter
		before uint64
		want   []string
	}{
		{"all", Filter{}, 0, []string{"5", "4", "3", "2", "1"}},
		{"from the middle", Filter{}, 4, []string{"3", "2", "1"}},
		{"from the first", Filter{}, 1, nil},
		{"from beyond the end", Filter{}, 99, []string{"5", "4", "3", "2", "1"}},
		{"an action", Filter{Actions: []Action{Pause}}, 0, []string{"4", "2"}},
		{"since", Filter{Since: third}, 0, []string{"5", "4", "3"}},
		{"until", Filter{Until: third}, 0, []string{"2", "1"}},
		{"nobody's", Filter{Actor: "bob"}, 0, nil},
		{"since later", Filter{Since: time.Now().Add(time.Hour)}, 0, nil},
	} {
		if got := trail.back(t, tt.filter, tt.before); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	enough := errors.New("enough")
	if err := trail.Back(t.Context(), Filter{}, 0, func(Record) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the end of the visit: %v", err)
	}
	stream, err := js.Stream(t.Context(), "USAGE_AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := trail.back(t, Filter{}, 0); !slices.Equal(got, []string{"5", "4", "2", "1"}) {
		t.Errorf("with a gap: %q", got)
	}
}
