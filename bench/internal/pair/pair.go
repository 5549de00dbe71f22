// Package pair measures two programs on the same work, in turn, A B A B: the worker
// and the bare loop, or two builds of the worker. Both drain a backlog of the same NATS
// server, every write synced, into the same sink, and are looked at from outside:
// events that arrived, user and system time, peak memory. What counts is the
// ratio within a round; the machine's speed drops out of it.
package pair

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/usage"
)

// Work is what both do, and how often.
type Work struct {
	Rate      int // requests a second, of both; 0 is no limit
	Events    int // that are measured in each turn
	Rounds    int
	Customers int
	Latency   string // of the sink
	Worker    string // binary; "" is built from the working tree
	Against   string // binary of another build of the worker; "" is the bare loop
}

// Flags adds the flags that all measurements of pairs have.
func (w *Work) Flags() {
	flag.IntVar(&w.Events, "events", w.Events, "events in each turn")
	flag.IntVar(&w.Rounds, "rounds", w.Rounds, "turns of each")
	flag.IntVar(&w.Customers, "customers", w.Customers, "customers of the traffic")
	flag.StringVar(&w.Latency, "latency", w.Latency, "of the sink")
	flag.StringVar(&w.Worker, "worker", "", "binary of the worker; without it the working tree's is built")
	flag.StringVar(&w.Against, "against", "", "measure against another binary of the worker, and not against the bare loop")
}

// unlimited is a rate that nothing on one machine reaches.
const unlimited = 50_000

// Turn is one program's measurement.
type Turn struct {
	PerSecond   float64
	CPU, NATS   float64 // seconds for 10,000 events
	RSS         int     // peak, in bytes
	Connections int
}

// Contender is one of the two.
type Contender struct {
	Name   string
	Prefix string // of the subjects that it drains
	Start  func(context.Context) (*stage.Worker, error)
	Turns  []Turn
}

// Pair is both on one stage.
type Pair struct {
	Stage *stage.Stage
	A, B  *Contender

	work Work
	next int // number of the next event
}

// Open sets the stage.
func Open(ctx context.Context, w Work) (*Pair, error) {
	rate := w.Rate
	if rate == 0 {
		rate = unlimited
	}
	s, err := stage.OpenApart(ctx, stage.Config{Rate: rate, Latency: w.Latency, Bare: float64(w.Rate)})
	if err != nil {
		return nil, err
	}
	p := &Pair{Stage: s, work: w, A: worker(s, "worker", w.Worker), B: &Contender{Name: "bare", Prefix: stage.BarePrefix, Start: s.StartBare}}
	if w.Against != "" {
		p.B = worker(s, "against", w.Against)
	}
	return p, nil
}

func worker(s *stage.Stage, name, binary string) *Contender {
	return &Contender{Name: name, Start: func(ctx context.Context) (*stage.Worker, error) {
		s.Use(binary)
		return s.StartWorker(ctx)
	}}
}

// Rounds has each take its turns, and tells what came of each.
func (p *Pair) Rounds(ctx context.Context, out io.Writer) error {
	for range p.work.Rounds {
		for _, c := range []*Contender{p.A, p.B} {
			turn, err := p.turn(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			c.Turns = append(c.Turns, turn)
			_, _ = fmt.Fprintf(out, "%-8s %7.0f events/s  %5.2f CPU s per 10,000  NATS %5.2f  peak %3d MB  %4d connections\n",
				c.Name, turn.PerSecond, turn.CPU, turn.NATS, turn.RSS>>20, turn.Connections)
		}
	}
	return nil
}

// warm is how many events of a turn come before the measurement: connections are
// opened, and pulls are full.
func (p *Pair) warm() int { return max(p.work.Rate, p.work.Events/10) * 3 / 2 }

// turn drains a fresh backlog. More is stored than is measured, so that the end of the
// backlog is not.
func (p *Pair) turn(ctx context.Context, c *Contender) (t Turn, err error) {
	if err := p.publish(c, p.work.Events+2*p.warm()); err != nil {
		return t, err
	}
	before, err := p.Stage.Count(ctx)
	if err != nil {
		return t, err
	}
	running, err := c.Start(ctx)
	if err != nil {
		return t, err
	}
	defer running.Stop()
	first, err := p.reach(ctx, running.Pid, before.Requests+p.warm())
	if err != nil {
		return t, err
	}
	last, err := p.reach(ctx, running.Pid, before.Requests+p.warm()+p.work.Events)
	if err != nil {
		return t, err
	}
	if last.Requests == first.Requests {
		return t, errFew
	}
	t.RSS, err = stage.PeakRSS(running.Pid)
	events := float64(last.Requests - first.Requests)
	t.PerSecond = events / last.at.Sub(first.at).Seconds()
	t.CPU = (last.cpu - first.cpu).Seconds() / events * 10_000
	t.NATS = (last.nats - first.nats).Seconds() / events * 10_000
	t.Connections = last.Connections - before.Connections
	return t, err
}

// mark is a moment of a measurement.
type mark struct {
	stage.Count

	at        time.Time
	cpu, nats time.Duration
}

// patience is how long no event may arrive.
const patience = 30 * time.Second

var (
	errStuck = errors.New("no event has arrived for half a minute")
	errFew   = errors.New("too few events to measure: all had arrived before the first look")
)

// reach waits until so many requests have come to the sink.
func (p *Pair) reach(ctx context.Context, pid, requests int) (m mark, err error) {
	for since, seen := time.Now(), 0; time.Since(since) < patience && ctx.Err() == nil; stage.Pause(ctx, 20*time.Millisecond) {
		if m.Count, err = p.Stage.Count(ctx); err != nil {
			return m, err
		}
		if m.Requests >= requests {
			return p.look(pid, m)
		}
		if m.Requests > seen {
			since, seen = time.Now(), m.Requests
		}
	}
	return m, errStuck
}

func (p *Pair) look(pid int, m mark) (_ mark, err error) {
	m.at = time.Now()
	if m.cpu, err = stage.CPU(pid); err == nil {
		m.nats, err = stage.CPU(p.Stage.NATSPid)
	}
	return m, err
}

func (p *Pair) publish(c *Contender, events int) error {
	js, err := p.Stage.JetStream()
	if err != nil {
		return err
	}
	for range events {
		if _, err := stage.PublishBelow(js, c.Prefix, p.Event()); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	return nil
}

// Event is the next event of the traffic.
func (p *Pair) Event() usage.Params {
	p.next++
	return usage.Params{
		EventName: fmt.Sprintf("meter_%d", p.next%3), Customer: fmt.Sprintf("cus_%d", p.next%p.work.Customers),
		Identifier: fmt.Sprintf("bench-%08d-7d3f52", p.next), Value: 1024, Timestamp: time.Now(), Dimensions: map[string]string{"region": "eu"},
	}
}

// Ratios is one figure of A ÷ B in each round, and their median.
func (p *Pair) Ratios(figure func(Turn) float64) (ratios []float64, median float64) {
	for i, a := range p.A.Turns {
		ratios = append(ratios, figure(a)/figure(p.B.Turns[i]))
	}
	return ratios, Median(ratios)
}

// Median of the values.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Verdict is one line: the ratio in each round, their median and spread.
func (p *Pair) Verdict(what string, figure func(Turn) float64) string {
	ratios, median := p.Ratios(figure)
	var each []string
	for _, r := range ratios {
		each = append(each, fmt.Sprintf("%.2f", r))
	}
	return fmt.Sprintf("%s, %s ÷ %s: %.2f (%s)", what, p.A.Name, p.B.Name, median, strings.Join(each, ", "))
}
