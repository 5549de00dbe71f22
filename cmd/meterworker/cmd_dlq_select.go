package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/replay"
)

// LetterSelection names the letters that a command is about to change.
type LetterSelection struct {
	LetterFilter
	IDs    []string `arg:"" name:"id" optional:"" help:"Ids of dead letters, as the list shows them."`
	All    bool     `help:"All dead letters."`
	DryRun bool     `help:"Say what would be done, and change nothing."`
	Yes    bool     `short:"y" help:"Do not ask."`
}

// selection refuses what is not clearly meant.
func (s *LetterSelection) selection(p *process, now time.Time) ([]uint64, replay.Filter, error) {
	ids, err := parseIDs(s.IDs)
	if err != nil {
		return nil, replay.Filter{}, err
	}
	filter, err := s.filter(now)
	bulk := s.All || s.given()
	switch {
	case err != nil:
		return nil, replay.Filter{}, err
	case len(ids) > 0 && (bulk || s.Limit != nil):
		return nil, replay.Filter{}, errors.New("give ids, or filters, or --all; not ids with others")
	case len(ids) == 0 && !bulk:
		return nil, replay.Filter{}, errors.New("nothing is selected; give ids, a filter, or --all")
	case bulk && !s.Yes && !s.DryRun && !canAsk(p):
		return nil, replay.Filter{}, errNobodyToAsk
	}
	return ids, filter, nil
}

var errNobodyToAsk = errors.New("there is no terminal to ask on; give --yes, or --dry-run to look first")

// canAsk tells whether a person can be asked.
func canAsk(p *process) bool { return isTerminal(p.In) && p.Terminal }

// recordedLetter is a letter as the audit trail names it.
func recordedLetter(l replay.Letter) audit.Letter {
	return audit.Letter{
		ID: l.ID, Reason: string(l.Reason), Code: l.Code, EventName: l.EventName(), Customer: l.Customer(), Value: l.Value(),
		Sequence: l.Sequence, Before: l.Identifier, Body: audit.Digest(l.Body),
	}
}

// confirm asks a person; anything but yes is no.
func confirm(ctx context.Context, p *process, question string) error {
	_, _ = fmt.Fprintf(p.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		const longest = 64
		line, _ := bufio.NewReader(io.LimitReader(p.In, longest)).ReadString('\n') // an end without an answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
	case <-ctx.Done():
		_, _ = fmt.Fprintln(p.Err)
	}
	_, _ = fmt.Fprintln(p.Err, "meterworker: nothing was done")
	return &silentError{exitFailed}
}
