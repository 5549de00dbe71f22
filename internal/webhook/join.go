package webhook

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// margins widen the window of a report step by step, for what was not found in it: the
// delivery's record may be stored a little before or after Stripe's validation; then
// for records that waited; then for clocks and windows that are not what we think they are.
var margins = []time.Duration{10 * time.Second, 5 * time.Minute, time.Hour, 7 * 24 * time.Hour}

// Bounds of the search for one report. What they cut off stays unnamed, and is counted as that.
const (
	maxLines    = 5_000_000 // of the journal: some seconds
	maxMessages = 100_000   // of the outbox, each read alone: a minute
)

// fate is what the journal says of a sequence, as far as it was read.
type fate struct {
	partition int
	state     journal.State // Delivered and Dead are final; Unknown outlives a later refusal
	at        time.Time
}

// learn takes the next entry in. An attempt of unknown outcome is not undone by a later
// one that was not made.
func (f *fleeting) learn(l journal.Line) {
	old, seen := f.fates[l.Sequence]
	if seen && (old.final() || old.state == journal.Unknown && l.State == journal.NotSent) {
		return
	}
	state := l.State
	if state == journal.Dying {
		state = journal.Dead
	}
	if old.state == journal.Unknown && state == journal.Open {
		state = journal.Unknown
	}
	f.fates[l.Sequence] = fate{partition: l.Partition, state: state, at: l.At}
}

func (f fate) final() bool { return f.state == journal.Delivered || f.state == journal.Dead }

// fleeting is what one reading of the journal has found.
type fleeting struct {
	fates map[uint64]fate
	lines int
}

// match is the usage that a sample is about.
type match struct {
	rejection Rejection
	message   Message
	event     resolved
	fate      fate
	several   bool // the identifier fits more than one message
}

// resolved is what a message says of itself, as it was billed.
type resolved struct {
	name, identifier string
	timestamp        int64
}

// resolve reads a message as the delivery did.
func resolve(m Message, epoch string) resolved {
	event, err := usage.Parse(usage.Message{
		Subject: m.Subject, Header: m.Header, Body: m.Body, Sequence: m.Sequence, Epoch: epoch, StoredAt: m.StoredAt,
	}, m.StoredAt)
	if err == nil {
		return resolved{event.EventName(), event.Identifier(), event.Timestamp()}
	}
	r := resolved{name: eventName(m.Subject)}
	if refusal, ok := errors.AsType[*usage.Refusal](err); ok { // too old or too new when it was stored, and not when it was sent
		r.identifier, r.timestamp = refusal.Identifier, refusal.Timestamp
	}
	return r
}

func eventName(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 4 {
		return ""
	}
	name, err := usage.DecodeToken(tokens[2])
	if err != nil {
		return ""
	}
	return name
}

// search finds the usage that the samples of one report are about.
type search struct {
	w         *Worker
	report    Report
	eventName string // of the report's meter; "" if it is not known

	left     map[string][]Rejection // by identifier: not found yet
	found    []match
	examined map[uint64]bool
	messages int // read
	cut      bool
}

func (w *Worker) search(ctx context.Context, r Report, eventName string) (*search, error) {
	s := &search{w: w, report: r, eventName: eventName, left: map[string][]Rejection{}, examined: map[uint64]bool{}}
	for _, sample := range r.Samples {
		direct, err := s.direct(ctx, sample)
		if err != nil {
			return nil, err
		}
		if !direct && sample.Identifier != "" {
			s.left[sample.Identifier] = append(s.left[sample.Identifier], sample)
		}
	}
	for _, margin := range margins {
		if len(s.left) == 0 || s.cut {
			break
		}
		if err := s.window(ctx, r.Start.Add(-margin), r.End.Add(margin)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ourKey is the Idempotency-Key that package delivery makes: the epoch, the life of the
// partition, the sequence, and counters.
var ourKey = regexp.MustCompile(`^mw-([0-9a-z]+)-.+-([0-9]{1,20})-[0-9]+\.[0-9]+$`)

// direct follows an Idempotency-Key of ours to the message.
func (s *search) direct(ctx context.Context, sample Rejection) (bool, error) {
	parts := ourKey.FindStringSubmatch(sample.Key)
	if parts == nil || parts[1] != s.w.cfg.Epoch {
		return false, nil
	}
	sequence, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return false, nil //nolint:nilerr // no number of ours
	}
	m, found, err := s.message(ctx, sequence)
	if err != nil || !found {
		return false, err
	}
	event := resolve(m, s.w.cfg.Epoch)
	if !s.fits(event) || sample.Identifier != "" && sample.Identifier != event.identifier {
		return false, nil
	}
	f, err := s.w.settled(ctx, m)
	if err == nil {
		s.found = append(s.found, match{rejection: sample, message: m, event: event, fate: f})
	}
	return err == nil, err
}

func (s *search) fits(event resolved) bool { return s.eventName == "" || event.name == s.eventName }

func (s *search) message(ctx context.Context, sequence uint64) (Message, bool, error) {
	s.messages++
	return s.w.outbox.Message(ctx, sequence)
}

// settled reads on from where the message was stored until the journal's last word on it.
func (w *Worker) settled(ctx context.Context, m Message) (fate, error) {
	f := fleeting{fates: map[uint64]fate{}}
	// The clocks of two streams' leaders may differ.
	err := w.history.Read(ctx, m.Partition, m.StoredAt.Add(-time.Minute), time.Now().Add(time.Hour), func(l journal.Line) bool {
		if l.Sequence == m.Sequence {
			f.learn(l)
		}
		return !f.fates[m.Sequence].final()
	})
	return f.fates[m.Sequence], err
}

// window looks at everything that was sent or settled between two times.
func (s *search) window(ctx context.Context, from, until time.Time) error {
	f := fleeting{fates: map[uint64]fate{}}
	err := s.w.history.Read(ctx, journal.AnyPartition, from, until, func(l journal.Line) bool {
		f.lines++
		if !s.examined[l.Sequence] {
			f.learn(l)
		}
		return f.lines < maxLines && len(f.fates) < maxMessages
	})
	if err != nil {
		return err
	}
	s.cut = f.lines >= maxLines || len(f.fates) >= maxMessages
	var sequences []uint64
	for sequence, fate := range f.fates {
		if fate.state != journal.NotSent {
			sequences = append(sequences, sequence)
		}
	}
	slices.Sort(sequences)
	hits := map[string][]match{}
	for _, sequence := range sequences {
		if s.messages >= maxMessages {
			s.cut = true
			break
		}
		s.examined[sequence] = true
		if err := s.examine(ctx, sequence, f.fates[sequence], hits); err != nil {
			return err
		}
	}
	return s.conclude(ctx, hits)
}

// examine compares one message with what is looked for.
func (s *search) examine(ctx context.Context, sequence uint64, f fate, hits map[string][]match) error {
	m, found, err := s.message(ctx, sequence)
	if err != nil || !found {
		return err
	}
	event := resolve(m, s.w.cfg.Epoch)
	if wanted := s.left[event.identifier]; len(wanted) > 0 && s.fits(event) {
		hits[event.identifier] = append(hits[event.identifier], match{rejection: wanted[0], message: m, event: event, fate: f})
	}
	return nil
}

// conclude takes the hits of one window over. An identifier is unique per event name and
// customer only: where it fits several messages nobody knows which one was rejected.
func (s *search) conclude(ctx context.Context, hits map[string][]match) error {
	for identifier, matches := range hits {
		for _, m := range matches {
			if !m.fate.final() { // what the window has not shown, later entries may
				var err error
				if m.fate, err = s.w.settled(ctx, m.message); err != nil {
					return err
				}
			}
			m.several = len(matches) > max(1, len(s.left[identifier]))
			s.found = append(s.found, m)
		}
		delete(s.left, identifier)
	}
	return nil
}
