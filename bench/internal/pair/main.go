package pair

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Measure is one thing that a comparison ends with.
type Measure struct {
	Name string
	Of   func(Turn) float64
}

// Main is a program that plays the rounds of w, with the flags of the command line, and
// ends with the ratio of each measure.
func Main(program string, w *Work, measures ...Measure) {
	w.Flags()
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) // what was started ends with it
	defer end()
	if err := compare(ctx, *w, measures); err != nil {
		fmt.Fprintln(os.Stderr, program+":", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, w Work, measures []Measure) (err error) {
	p, err := Open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stage.Close()) }()
	if err := p.Rounds(ctx, os.Stdout); err != nil {
		return err
	}
	for _, m := range measures {
		_, _ = fmt.Fprintln(os.Stdout, p.Verdict(m.Name, m.Of))
	}
	return nil
}
