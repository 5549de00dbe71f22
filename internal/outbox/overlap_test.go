package outbox

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Dead letters that are stored in the outbox would be delivered again, and usage that
// is stored elsewhere never. Neither is possible: each stream has its own subjects.
func TestOverlappingSubjects(t *testing.T) {
	tests := []struct {
		name, stream string
		subjects     []string
		says         []string
	}{
		{"an outbox over the dead letters", UsageStream, []string{"usage.*.*.*"}, []string{"stream USAGE: subjects is [usage.*.*.*]: set them to [usage.events.*.* usage.replay.*.*]"}},
		{"an outbox over everything", UsageStream, []string{"usage.>"}, []string{"stream USAGE: subjects is [usage.>]"}},
		{"dead letters over the outbox", DLQStream, []string{"usage.dlq.*.*", "usage.events.*.*"}, []string{"USAGE", "overlap"}},
		{"a journal inside the outbox", JournalStream, []string{"usage.journal.>", "usage.replay.*.*"}, []string{"USAGE", "overlap"}},
		{"a stranger's stream over the dead letters", "OTHER", []string{"usage.dlq.>"}, []string{DLQStream, "overlap"}},
		{"a stranger's stream over the outbox", "OTHER", []string{"usage.events.api_calls.>"}, []string{"USAGE", "overlap"}},
		{"a stranger's stream over the journal", "OTHER", []string{"usage.journal.0.*"}, []string{JournalStream, "overlap"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: tt.stream, Subjects: tt.subjects, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew}); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), w.js, usual)
			if err == nil {
				t.Fatal("opened")
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}
