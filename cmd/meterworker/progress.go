package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressEvery keeps a terminal readable.
const progressEvery = 200 * time.Millisecond

// progress is a line on a terminal that is written over and over.
type progress struct {
	out   io.Writer // nil: nobody to show it to
	next  time.Time
	shown bool
}

// newProgress shows nothing unless standard error is a terminal and the results
// go somewhere else.
func newProgress(p *process) *progress {
	if !p.Terminal || isTerminal(p.Out) {
		return &progress{}
	}
	return &progress{out: p.Err, next: time.Now().Add(progressEvery)}
}

func (p *progress) show(text func() string) {
	if p.out == nil || time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(progressEvery)
	p.shown = true
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", text())
}

// clear makes room for other lines.
func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// isTerminal tells whether a person sits at the other end.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
