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
	"os"
	"time"

	"golang.org/x/term"

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
	conn, err := dialClient(p, c)
	if err != nil {
		return err
	}
	defer conn.close()
	reportBrokenPipe()
	if isTerminal(p.In) {
		_, _ = fmt.Fprintln(p.Err, "meterworker: reading events from the terminal, one JSON object a line; end with Ctrl-D")
	}
	batch := &publishBatch{
		command: c, process: p, publishing: publishing{usage.NewPublisher(conn.js), c.Timeout},
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

	read                                      int // number of the last line that was taken
	stored, duplicates, failed                int
	anonymous, undated                        int
	broken                                    error // standard output or input
	interrupted                               bool
}

// run keeps up to publishesAtOnce lines under way, and prints in order.
func (b *publishBatch) run(ctx context.Context) error {
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan chan published, publishesAtOnce-1) // one more is being printed
	go b.feed(stop, slots)
	for slot := range slots {
		result := <-slot
		b.count(result)
		if b.broken == nil {
			b.progress.clear()
			if b.broken = b.command.print(b.process, result, true); b.broken != nil {
				cancel() // nobody reads the results any more: begin nothing new
			}
		}
		b.progress.show(func() string {
			return fmt.Sprintf("%d stored, %d duplicates, %d failed", b.stored, b.duplicates, b.failed)
		})
	}
	b.progress.clear()
	b.interrupted = ctx.Err() != nil
	return b.conclude()
}

// feed takes lines until they end or stop does.
func (b *publishBatch) feed(stop context.Context, slots chan<- chan published) {
	defer close(slots)
	for line := range readLines(stop, b.process.In) {
		slot := make(chan published, 1)
		select {
		case slots <- slot:
		case <-stop.Done():
			return
		}
		go func() { slot <- b.one(stop, line) }()
	}
}
