package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/replay"
)

// DLQImportCmd puts exported letters back.
type DLQImportCmd struct {
	ClientSettings
	ActorSettings
	File   string `arg:"" optional:"" placeholder:"FILE" help:"JSON lines that export wrote; standard input without it, or as -."`
	DryRun bool   `help:"Say what would be done, and change nothing."`
	Why    string `placeholder:"TEXT" help:"The reason, kept in the audit trail."`
	Output string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// Help shows how the command is used.
func (*DLQImportCmd) Help() string {
	return "Puts letters back that are not there any more, as after a loss of USAGE_DLQ; it can be run again. A letter is told by its message id. " +
		"One that was replayed since the export and comes back bills nothing twice when it is replayed: the worker's ledger knows it. " +
		"Refused is what is no dead letter, and what belongs to another outbox. Exit code 1 if any line was refused or failed.\n\nExamples:\n\n" +
		"  meterworker dlq import letters.jsonl --dry-run\n" +
		"  meterworker dlq import --why \"stream lost\" < letters.jsonl"
}

// longestLetter is room for a letter of 1 MiB as base64 and as text that is escaped.
const longestLetter = 16 << 20

// Run puts the letters back.
func (c *DLQImportCmd) Run(ctx context.Context, p *process) error {
	lines := p.In
	if c.File != "" && c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return &usageError{err}
		}
		defer func() { _ = file.Close() }() // it was read
		lines = file
	}
	if lines == nil {
		return &usageError{errors.New("nothing to import; name a file, or write it to standard input")}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		reportBrokenPipe()
		index, err := letters.Index(ctx)
		if err != nil {
			return err
		}
		i := &importRun{command: c, process: p, letters: letters, index: index, refusal: conn.refusal, counts: map[replay.Outcome]int{}}
		if !c.DryRun {
			if i.record, err = beginRecord(ctx, p, conn, c.ActorSettings, audit.Import, c.Why); err != nil {
				return err
			}
		}
		return i.conclude(ctx, i.lines(ctx, lines))
	})
}

// importRun is one run of the import.
type importRun struct {
	command *DLQImportCmd
	process *process
	letters *replay.Letters
	record  *audit.Run
	index   replay.Index
	refusal func() error

	line   int
	counts map[replay.Outcome]int
	part   []imported
	size   int // of the bodies in the part, in bytes
}

// imported is one letter of the present part.
type imported struct {
	kept     replay.Kept
	line     int
	recorded audit.Letter
	result   replay.Result
}

// mostHeld bounds the bodies in memory, in bytes.
const mostHeld = 8 << 20

func (i *importRun) lines(ctx context.Context, r io.Reader) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), longestLetter)
	for scanner.Scan() && ctx.Err() == nil {
		i.line++
		if len(scanner.Bytes()) == 0 {
			continue
		}
		if err := i.one(ctx, scanner.Bytes()); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return errors.Join(i.flush(ctx), fmt.Errorf("line %d: %w", i.line+1, err))
	}
	return i.flush(ctx)
}

// one reads one line; a letter waits in the part for its record.
func (i *importRun) one(ctx context.Context, line []byte) error {
	k, err := i.keep(line)
	switch {
	case err != nil:
		return i.report(i.line, replay.Result{Outcome: replay.Refused, Detail: err.Error()})
	case i.index.Has(k):
		return i.report(i.line, replay.Result{Outcome: replay.Present, Identifier: k.Letter.Identifier})
	case i.command.DryRun:
		return i.report(i.line, replay.Result{Outcome: replay.PossibleRestore, Identifier: k.Letter.Identifier})
	}
	i.part = append(i.part, imported{kept: k, line: i.line, recorded: recordedLetter(replay.Letter{Letter: k.Letter, Body: k.Body})})
	if i.size += len(k.Body); len(i.part) < audit.PartSize && i.size < mostHeld {
		return nil
	}
	return i.flush(ctx)
}

func (i *importRun) keep(line []byte) (replay.Kept, error) {
	var o struct {
		Headers map[string][]string `json:"headers"`
		Base64  *string             `json:"body_base64"`
	}
	if err := json.Unmarshal(line, &o); err != nil {
		return replay.Kept{}, fmt.Errorf("it is no exported letter: %w", err)
	}
	if o.Base64 == nil || o.Headers == nil {
		return replay.Kept{}, errors.New("it is no exported letter: headers or body_base64 is missing; only JSON lines of `meterworker dlq export` can be imported")
	}
	body, err := base64.StdEncoding.DecodeString(*o.Base64)
	if err != nil {
		return replay.Kept{}, fmt.Errorf("body_base64: %w", err)
	}
	return i.letters.Keep(o.Headers, body) // says what is wrong
}

// flush records the part, stores its letters, and records what came of it.
func (i *importRun) flush(ctx context.Context) error {
	part := i.part
	i.part, i.size = nil, 0
	if len(part) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	intent := audit.Record{}
	for _, k := range part {
		intent.Letters = append(intent.Letters, k.recorded)
	}
	if err := i.record.Intent(ctx, intent); err != nil {
		return err
	}
	err := i.store(ctx, part)
	return errors.Join(err, i.record.Result(ctx, importOutcome(part)))
}

func importOutcome(part []imported) audit.Record {
	record := audit.Record{Counts: map[string]int{}}
	for _, k := range part {
		outcome := string(k.result.Outcome)
		if outcome == "" {
			outcome = "not_begun"
		}
		record.Counts[outcome]++
		record.Letters = append(record.Letters, audit.Letter{ID: k.result.ID, Sequence: k.recorded.Sequence, Reason: k.recorded.Reason, Outcome: outcome, Detail: k.result.Detail})
	}
	return record
}

func (i *importRun) store(ctx context.Context, part []imported) error {
	for n := range part {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := &part[n]
		k.result = i.letters.Restore(ctx, i.index, k.kept)
		if err := i.report(k.line, k.result); err != nil {
			return err
		}
		if refusal := i.refusal(); refusal != nil {
			return refusal
		}
	}
	return nil
}

// importObject is the form of one result for programs; every field is always there.
type importObject struct {
	Line       int    `json:"line"`
	ID         uint64 `json:"id"`     // the letter's new id; 0 where it was not stored
	Result     string `json:"result"` // imported, would_import, already_there, refused or failed
	Identifier string `json:"identifier"`
	Detail     string `json:"detail"`
}

func (i *importRun) report(line int, r replay.Result) error {
	i.counts[r.Outcome]++
	if i.command.Output == "json" {
		return writeJSONLine(i.process.Out, importObject{line, r.ID, string(r.Outcome), r.Identifier, r.Detail})
	}
	id := ""
	if r.Outcome == replay.Restored {
		id = fmt.Sprintf(" as %d", r.ID)
	}
	_, err := fmt.Fprintf(i.process.Out, "line %d%s: %s\n", line, id, resultText(r))
	return err
}

func (i *importRun) conclude(ctx context.Context, err error) error {
	verb, n := "imported", i.counts[replay.Restored]
	if i.command.DryRun {
		verb, n = "dry run, nothing was changed: would import", i.counts[replay.PossibleRestore]
	}
	_, _ = fmt.Fprintf(i.process.Err, "meterworker: %s %d, already there %d, refused %d, failed %d\n",
		verb, n, i.counts[replay.Present], i.counts[replay.Refused], i.counts[replay.Failed])
	if err != nil {
		return interruptedQuietly(ctx, err)
	}
	if i.counts[replay.Refused]+i.counts[replay.Failed] > 0 {
		return &silentError{exitFailed}
	}
	return nil
}
