package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// DLQCmd groups the commands about dead letters.
type DLQCmd struct {
	List    DLQListCmd    `cmd:"" help:"Count dead letters by reason and code, and list them, oldest first."`
	Show    DLQShowCmd    `cmd:"" help:"Show everything that is known of one dead letter, and what to do about it."`
	Replay  DLQReplayCmd  `cmd:"" help:"Publish dead letters again, each exactly as it was, and take them out of the dead letters."`
	Edit    DLQEditCmd    `cmd:"" help:"Correct the event of one dead letter, and publish it in the letter's place."`
	Discard DLQDiscardCmd `cmd:"" help:"Delete dead letters whose usage need not be billed."`
	Export  DLQExportCmd  `cmd:"" help:"Write dead letters with their bodies as JSON lines or CSV."`
	Import  DLQImportCmd  `cmd:"" help:"Put back exported dead letters that are not there any more."`
}

// LetterFilter selects dead letters. A flag that is given is never empty: an unset
// shell variable must not select everything.
type LetterFilter struct {
	Reason    []string `sep:"none" placeholder:"REASON" choices:"undecodable,too_large,subject_mismatch,invalid_event_name,invalid_identifier,invalid_payload,meter_event_no_customer_defined,meter_event_invalid_value,timestamp_too_far_in_past,timestamp_in_future,identifier_conflict,rejected,server_error,unexpected_response,ambiguous,rejected_later,panic" help:"Why it died; repeatable, or separated by commas. A wrong reason lists the right ones." group:"Filter:"`
	EventName *string  `placeholder:"NAME" help:"Event name of the meter." group:"Filter:"`
	Customer  *string  `placeholder:"ID" help:"Stripe's customer id." group:"Filter:"`
	Since     *string  `placeholder:"TIME" help:"Died then or later: RFC 3339, or how long ago, such as 90m, 2h or 7d." group:"Filter:"`
	Until     *string  `placeholder:"TIME" help:"Died before then, in the same forms." group:"Filter:"`
	Code      *string  `placeholder:"CODE" help:"Stripe's error code." group:"Filter:"`
	Episode   *string  `placeholder:"N" help:"Number of the outage in which it died." group:"Filter:"`
	Limit     *int     `placeholder:"N" help:"At most so many, the oldest first; at least 1." group:"Filter:"`
}

// given tells whether anything is selected by what it is; a limit alone is no
// selection.
func (f *LetterFilter) given() bool {
	return len(f.Reason) > 0 || slices.ContainsFunc(f.texts(), func(t filterText) bool { return t.value != nil })
}

// filterText is one flag with a text.
type filterText struct {
	flag  string
	value *string
}

func (f *LetterFilter) texts() []filterText {
	return []filterText{
		{"--event-name", f.EventName},
		{"--customer", f.Customer},
		{"--since", f.Since},
		{"--until", f.Until},
		{"--code", f.Code},
		{"--episode", f.Episode},
	}
}

// filter fixes relative times at now.
func (f *LetterFilter) filter(now time.Time) (replay.Filter, error) {
	for _, text := range f.texts() {
		if text.value != nil && *text.value == "" {
			return replay.Filter{}, fmt.Errorf("%s is empty; give a value, or leave it out", text.flag)
		}
	}
	reasons, err := parseReasons(f.Reason)
	if err != nil {
		return replay.Filter{}, err
	}
	limit := 0
	if f.Limit != nil {
		if limit = *f.Limit; limit < 1 {
			return replay.Filter{}, fmt.Errorf("--limit=%d is not at least 1", limit)
		}
	}
	since, err := parseMoment("--since", f.Since, now)
	if err != nil {
		return replay.Filter{}, err
	}
	until, err := parseMoment("--until", f.Until, now)
	if err != nil {
		return replay.Filter{}, err
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return replay.Filter{}, errors.New("--since is not before --until, so nothing can match")
	}
	return replay.Filter{
		Reasons: reasons, EventName: text(f.EventName), Customer: text(f.Customer), Code: text(f.Code),
		Episode: text(f.Episode), Since: since, Until: until, Limit: limit,
	}, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func knownReasons() []string {
	var known []string
	for _, reason := range deadletter.Reasons() {
		known = append(known, string(reason))
	}
	return known
}

// parseReasons does not leave the commas to the parser, for which "" is no reason
// at all, and so every reason.
func parseReasons(texts []string) ([]deadletter.Reason, error) {
	var reasons []deadletter.Reason
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			reason := deadletter.Reason(part)
			if !reason.Valid() {
				return nil, fmt.Errorf("--reason=%q is none of %s", part, strings.Join(knownReasons(), ", "))
			}
			reasons = append(reasons, reason)
		}
	}
	return reasons, nil
}

// parseMoment reads RFC 3339, or a duration before now; days of 24 h are d.
func parseMoment(flag string, value *string, now time.Time) (time.Time, error) {
	if value == nil {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, *value); err == nil {
		return t, nil
	}
	const most = 100 * 365 * 24 * time.Hour
	ago, err := time.ParseDuration(*value)
	if days, found := strings.CutSuffix(*value, "d"); found {
		n, dayErr := strconv.ParseUint(days, 10, 16)
		ago, err = time.Duration(n)*24*time.Hour, dayErr
	}
	if err != nil || ago <= 0 || ago > most {
		return time.Time{}, fmt.Errorf("%s=%q is neither a time (2026-01-02T15:04:05Z) nor how long ago (90m, 2h, 7d)", flag, *value)
	}
	return now.Add(-ago), nil
}

// parseIDs reads sequences of USAGE_DLQ, each once.
func parseIDs(texts []string) ([]uint64, error) {
	ids := make([]uint64, 0, len(texts))
	for _, text := range texts {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("%q is no id of a dead letter; ids are the numbers from 1 up that `meterworker dlq list` shows", shorten(text))
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// withLetters connects, opens the dead letters and does the work. flags points to a
// struct that embeds ClientSettings.
func withLetters(ctx context.Context, p *process, flags any, work func(context.Context, *client, *replay.Letters) error) error {
	return withClient(ctx, p, flags, roleOperator, func(ctx context.Context, conn *client) error {
		letters, err := replay.Open(ctx, conn.js)
		if err != nil {
			return err // names the stream
		}
		return work(ctx, conn, letters)
	})
}
