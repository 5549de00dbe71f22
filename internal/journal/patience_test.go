package journal_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

// offer is one entry, offered at a time with a patience, in milliseconds.
type offer struct{ at, patience int }

// Patient entries wait for each other; an impatient one of their kind takes them along, one
// of the other kind does not.
func TestPatientEntriesShareAMessage(t *testing.T) {
	for name, test := range map[string]struct {
		records, intents []offer
		done             []int // entries of each message
		intended         []int
		took             int
	}{
		"alone":                      {records: []offer{{0, 50}}, done: []int{1}, took: 50},
		"in company":                 {records: []offer{{0, 50}, {10, 50}, {49, 50}}, done: []int{3}, took: 50},
		"too late for it":            {records: []offer{{0, 50}, {51, 50}}, done: []int{1, 1}, took: 101},
		"an impatient one":           {records: []offer{{0, 50}, {10, 0}}, done: []int{2}, took: 10},
		"a less patient one":         {records: []offer{{0, 50}, {10, 20}}, done: []int{2}, took: 30},
		"a more patient one":         {records: []offer{{0, 20}, {10, 50}}, done: []int{2}, took: 20},
		"intents, too":               {intents: []offer{{0, 50}, {10, 50}}, intended: []int{2}, took: 50},
		"an impatient intent beside": {records: []offer{{0, 50}}, intents: []offer{{10, 0}}, done: []int{1}, intended: []int{1}, took: 50},
		"an impatient record beside": {records: []offer{{10, 0}}, intents: []offer{{0, 50}}, done: []int{1}, intended: []int{1}, took: 50},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				o := claim(t, store, nil)
				began := time.Now()
				var all sync.WaitGroup
				for i, r := range test.records {
					all.Go(func() {
						<-time.After(time.Duration(r.at) * time.Millisecond)
						e := as(numbered(i), journal.Delivered)
						e.Patience = time.Duration(r.patience) * time.Millisecond
						o.record(e)
					})
				}
				for i, r := range test.intents {
					all.Go(func() {
						<-time.After(time.Duration(r.at) * time.Millisecond)
						e := numbered(100 + i)
						e.Patience = time.Duration(r.patience) * time.Millisecond
						o.intend(e)
					})
				}
				all.Wait()
				if took := time.Since(began); took != time.Duration(test.took)*time.Millisecond {
					t.Errorf("took %v, want %d ms", took, test.took)
				}
				for kind, want := range map[journal.Kind][]int{journal.DoneKind: test.done, journal.IntentKind: test.intended} {
					var got []int
					for _, entries := range stored(t, store, kind) {
						got = append(got, len(entries))
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: messages of %v entries, want %v", kind, got, want)
					}
				}
			})
		})
	}
}

// A partition that closes waits for nobody's patience.
func TestClosingWritesWhatIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := claim(t, journaltest.New(), nil)
		e := as(numbered(1), journal.Delivered)
		e.Patience = time.Hour
		recorded := started(func() error { return o.Record(t.Context(), e) })
		began := time.Now()
		if err := o.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-recorded; err != nil {
			t.Errorf("the record was not written: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("closing took %v", took)
		}
	})
}
