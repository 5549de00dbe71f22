package replay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// mostNames bounds the event names that one group keeps, however many producers make up.
const mostNames = 100

// Group is the letters that died of one reason and code.
type Group struct {
	Reason     deadletter.Reason
	Code       string
	Count      int
	Oldest     time.Time // when the first of them died
	EventNames []string  // of their subjects, sorted; at most 100
	MoreNames  bool      // there are others
}

// Counts is how many letters wait, by reason, without reading any.
func (l *Letters) Counts(ctx context.Context) (map[deadletter.Reason]int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := l.dlq.Info(ctx, jetstream.WithSubjectFilter("usage.dlq.>"))
	if err != nil {
		return nil, fmt.Errorf("count the letters of %s: %w", outbox.DLQStream, err)
	}
	counts := map[deadletter.Reason]int{}
	for subject, n := range info.State.Subjects {
		counts[deadletter.ReasonOf(subject)] += int(n)
	}
	return counts, nil
}

// Groups counts the letters that the filter selects, by reason and code; the largest group
// comes first. Where headers tell what is selected, no body is read.
func (l *Letters) Groups(ctx context.Context, f Filter) ([]Group, error) {
	all := map[groupKey]*group{}
	each := l.headers
	if f.EventName != "" || f.Customer != "" || f.Text != "" {
		each = l.Each // the body says whose it is
	}
	err := each(ctx, f, func(letter Letter) error {
		key := groupKey{letter.Reason, letter.Code}
		if all[key] == nil {
			all[key] = &group{names: map[string]bool{}}
		}
		all[key].add(letter)
		return nil
	})
	if err != nil {
		return nil, err
	}
	groups := make([]Group, 0, len(all))
	for key, g := range all {
		groups = append(groups, Group{key.reason, key.code, g.count, g.oldest, slices.Sorted(maps.Keys(g.names)), g.more})
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Code, b.Code))
	})
	return groups, nil
}

type groupKey struct {
	reason deadletter.Reason
	code   string
}

type group struct {
	count  int
	oldest time.Time
	names  map[string]bool
	more   bool
}

func (g *group) add(l Letter) {
	g.count++
	if died := l.Died(); g.oldest.IsZero() || died.Before(g.oldest) {
		g.oldest = died
	}
	name := "" // of a letter that does not know its subject
	if tokens := strings.Split(l.Subject, "."); len(tokens) == 4 {
		name = decoded(tokens[2])
	}
	if !g.names[name] && len(g.names) == mostNames {
		g.more = true
		return
	}
	g.names[name] = true
}
