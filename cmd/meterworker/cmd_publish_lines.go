package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
)

// publishesAtOnce is how many lines are under way beside each other.
const publishesAtOnce = 64

// longestLine is where the reader stops to keep a line: no body is longer.
const longestLine = usage.MaxBody + 1

// inputLine is one line of standard input, without its end.
type inputLine struct {
	number int
	body   []byte // cut at longestLine
	err    error  // of the reading; the last line then
}

// lines publishes standard input.
func (c *PublishCmd) lines(ctx context.Context, p *process) error {
	conn, err := c.dial(p)
	if err != nil {
		return err
	}
	defer conn.close()
	reportBrokenPipe()
	if isTerminal(p.In) {
		_, _ = fmt.Fprintln(p.Err, "meterworker: reading events from the terminal, one JSON object a line; end with Ctrl-D")
	}
	batch := &publishBatch{
		command: c, process: p, publishing: publishing{newPublisher(p, conn.js), c.Timeout, conn.cfg},
		progress: newProgress(p),
	}
	return batch.run(ctx)
}

// publishBatch is one run over standard input.
type publishBatch struct {
	command    *PublishCmd
	process    *process
	publishing publishing
	progress   *progress

	last                       int // line of the newest result
	stored, duplicates, failed int
	anonymous, undated         int   // of what is stored
	broken                     error // standard output
}

// run keeps up to publishesAtOnce lines under way, and prints in order.
func (b *publishBatch) run(ctx context.Context) error {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan chan published, publishesAtOnce-1) // one more is waited for
	go b.feed(stop, slots)
	for slot := range slots {
		result := <-slot
		b.count(result)
		if b.broken != nil {
			continue
		}
		if b.broken = b.command.write(b.process, result, true); b.broken != nil {
			cancel() // nobody reads the results: begin nothing new
		}
		b.progress.show(b.tally)
	}
	b.progress.clear()
	return b.conclude(ctx.Err() != nil)
}

// feed begins lines until they end or stop does.
func (b *publishBatch) feed(stop context.Context, slots chan<- chan published) {
	defer close(slots)
	lines := make(chan inputLine)
	go readLines(stop, b.process.In, lines) // may outlive stop: reading cannot be cut short
	for {
		var line inputLine
		var more bool
		select {
		case line, more = <-lines:
		case <-stop.Done():
		}
		if !more || stop.Err() != nil {
			return
		}
		slot := make(chan published, 1)
		slots <- slot // blocks while publishesAtOnce are under way
		go func() { slot <- b.publishing.publish(stop, line.candidate(time.Now())) }()
	}
}

func (b *publishBatch) count(r published) {
	b.last = r.line
	switch {
	case r.err != nil:
		b.failed++
		return
	case r.receipt.Duplicate:
		b.duplicates++
	default:
		b.stored++
	}
	if r.anonymous {
		b.anonymous++
	}
	if r.undated && !r.anonymous {
		b.undated++
	}
}

func (b *publishBatch) tally() string {
	return fmt.Sprintf("%d stored, %d duplicates, %d failed", b.stored, b.duplicates, b.failed)
}

// conclude says once what a person has to know, and whether all went well.
func (b *publishBatch) conclude(interrupted bool) error {
	say := func(format string, values ...any) {
		_, _ = fmt.Fprintf(b.process.Err, "meterworker: "+format+"\n", values...)
	}
	if b.anonymous > 0 {
		say("%d events had no identifier and got a random one: publishing these lines again would bill them again; give each line an identifier", b.anonymous)
	}
	if b.undated > 0 {
		say("%d events had no timestamp and got the present time: published again, they are dead-lettered as identifier_conflict and not billed; give each line a timestamp", b.undated)
	}
	switch {
	case interrupted:
		say("interrupted after line %d (%s); later lines are not published", b.last, b.tally())
	case b.broken != nil:
		say("standard output is closed: stopped after line %d (%s); later lines are not published", b.last, b.tally())
		return b.broken
	case b.failed > 0:
		say("%s", b.tally())
	}
	if interrupted || b.failed > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

// readLines sends the lines that hold anything until they end or stop does.
func readLines(stop context.Context, in io.Reader, lines chan<- inputLine) {
	defer close(lines)
	reader := bufio.NewReaderSize(in, longestLine)
	for number := 1; ; number++ {
		body, err := readLine(reader)
		line := inputLine{number: number, body: body}
		if err != nil && !errors.Is(err, io.EOF) {
			line.err = fmt.Errorf("read standard input: %w", err)
		}
		if line.err != nil || len(bytes.TrimSpace(body)) > 0 {
			select {
			case lines <- line:
			case <-stop.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readLine returns a copy of the next line, cut at longestLine, and skips the
// rest of it.
func readLine(reader *bufio.Reader) ([]byte, error) {
	slice, err := reader.ReadSlice('\n')
	body := bytes.Clone(bytes.TrimRight(slice, "\r\n"))
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = reader.ReadSlice('\n')
	}
	return body, err
}

// candidate reads the line as a message body.
func (l inputLine) candidate(now time.Time) candidate {
	if l.err != nil {
		return candidate{line: l.number, err: l.err}
	}
	return parseCandidate(l.number, l.body, now)
}

// parseCandidate applies the worker's own rules, so that what it would bury is
// refused here. A body without identifier gets a random one, by way of the
// message id that stands in for it.
func parseCandidate(line int, body []byte, now time.Time) candidate {
	id := rand.Text()
	var address struct {
		EventName string          `json:"event_name"`
		Timestamp json.RawMessage `json:"timestamp"`
		Payload   struct {
			Customer string `json:"stripe_customer_id"`
		} `json:"payload"`
	}
	_ = json.Unmarshal(body, &address) // Parse says what is wrong
	event, err := usage.Parse(usage.Message{
		Subject: usage.EventsSubject(address.EventName, address.Payload.Customer), Body: body, StoredAt: now,
		Header: func(name string) string {
			if name == jetstream.MsgIDHeader {
				return id
			}
			return ""
		},
	}, now)
	return candidate{line: line, event: event, err: err, anonymous: event.Identifier() == id, undated: address.Timestamp == nil}
}
