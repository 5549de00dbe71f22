package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

// Filter selects records; what is zero selects all.
type Filter struct {
	Actions []Action // any of them
	Actor   string   // who they said they were, or who the system says
	Since   time.Time
	Until   time.Time // stored before then
}

// Matches tells whether the record is one of those selected.
func (f Filter) Matches(r Record) bool {
	action := len(f.Actions) == 0
	for _, wanted := range f.Actions {
		action = action || wanted == r.Action
	}
	actor := f.Actor == "" || f.Actor == r.Who.Actor || f.Actor == r.Who.User || f.Actor == r.Who.NATSUser
	return action && actor && (f.Since.IsZero() || !r.StoredAt.Before(f.Since)) && (f.Until.IsZero() || r.StoredAt.Before(f.Until))
}

// subject narrows what the server looks through.
func (f Filter) subject() string {
	if len(f.Actions) == 1 {
		return Record{Action: f.Actions[0]}.subject()
	}
	return "usage.audit.*"
}

// lookEvery is how often a follower looks for what is new.
const lookEvery = 500 * time.Millisecond

// Each visits the records that the filter selects, oldest first; those that are stored
// meanwhile are left out, or, where follow is set, waited for until ctx ends or no record
// can match any more.
func (t *Trail) Each(ctx context.Context, f Filter, follow bool, visit func(Record) error) error {
	for next := uint64(1); ; {
		last, err := t.last(ctx)
		if err != nil {
			return err
		}
		for next <= last {
			if next, err = t.visitNext(ctx, next, last, f, visit); err != nil {
				return err
			}
		}
		if !follow || !f.Until.IsZero() && !time.Now().Before(f.Until) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Back visits the records that the filter selects, newest first, from before that number on;
// 0 is the end of the trail.
func (t *Trail) Back(ctx context.Context, f Filter, before uint64, visit func(Record) error) error {
	last, err := t.last(ctx)
	if err != nil {
		return err
	}
	if before == 0 || before > last {
		before = last + 1
	}
	for sequence := before - 1; sequence > 0; sequence-- {
		record, err := t.get(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // somebody with more rights has taken it out
		}
		if err != nil {
			return err
		}
		if record.StoredAt.Before(f.Since) {
			return nil
		}
		if f.Matches(record) {
			if err := visit(record); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trail) get(ctx context.Context, sequence uint64) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := t.stream.GetMsg(ctx, sequence)
	if err != nil {
		return Record{}, fmt.Errorf("read stream %s: %w", outbox.AuditStream, err)
	}
	return decode(m)
}

// visitNext visits the first record from next on, and returns where to go on.
func (t *Trail) visitNext(ctx context.Context, next, last uint64, f Filter, visit func(Record) error) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := t.stream.GetMsg(calling, next, jetstream.WithGetMsgSubject(f.subject())) // that one, or the next there is
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return last + 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", outbox.AuditStream, err)
	}
	record, err := decode(m)
	if err != nil {
		return 0, err
	}
	if f.Matches(record) {
		if err := visit(record); err != nil {
			return 0, err
		}
	}
	return m.Sequence + 1, nil
}

func decode(m *jetstream.RawStreamMsg) (Record, error) {
	var r Record
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return Record{}, fmt.Errorf("record %d of %s is not what meterworker writes: %w", m.Sequence, outbox.AuditStream, err)
	}
	r.StoredAt, r.Sequence = m.Time, m.Sequence
	return r, nil
}

func (t *Trail) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := t.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", outbox.AuditStream, err)
	}
	return info.State.LastSeq, nil
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Edits are the edits that were begun, by letter. A letter that still waits although an
// edit of it was begun may have been published in its edited form.
func (t *Trail) Edits(ctx context.Context) (map[uint64]Record, error) {
	edits := map[uint64]Record{}
	err := t.Each(ctx, Filter{Actions: []Action{Edit}}, false, func(r Record) error {
		if r.Stage == Intent && len(r.Letters) == 1 {
			edits[r.Letters[0].ID] = r
		}
		return nil
	})
	return edits, err
}
