package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// verdict is the one word on how delivery goes. The list is closed.
type verdict string

const (
	verdictIdle       verdict = "idle"
	verdictDelivering verdict = "delivering"
	verdictStalled    verdict = "stalled"
	verdictWaiting    verdict = "waiting"
	verdictPaused     verdict = "paused"
	verdictUnowned    verdict = "unowned"
	verdictHalted     verdict = "halted"
	verdictNoWorkers  verdict = "no_workers"
	verdictUnknown    verdict = "unknown"
)

// verdicts is what each means, in the order of the help.
var verdicts = []struct {
	word    verdict
	meaning string
}{
	{verdictIdle, "nothing waits: there is no usage, and workers are there for it"},
	{verdictDelivering, "usage is being delivered"},
	{verdictStalled, "usage could be sent, has waited for over a minute, and nothing moves"},
	{verdictWaiting, "a worker waits out an outage of Stripe; it ends by itself"},
	{verdictPaused, "a person has paused the fleet"},
	{verdictUnowned, "partitions have no owner"},
	{verdictHalted, "a worker needs a person: a refused key, or a stream that is not what it was"},
	{verdictNoWorkers, "no worker runs"},
	{verdictUnknown, "NATS could not be read (with --watch)"},
}

func verdictHelp() string {
	var lines []string
	for _, v := range verdicts {
		lines = append(lines, fmt.Sprintf("  %-11s %s", v.word, v.meaning))
	}
	return strings.Join(lines, "\n")
}

// healthy tells whether usage is delivered, or would be if there were any.
func (v verdict) healthy() bool { return v == verdictIdle || v == verdictDelivering }

// stalledAfter is how old usage must be that nobody moves: what was published just now, or
// is with a partition that changes its owner, is no stall.
const stalledAfter = time.Minute

// judge finds the worst that is true, and why.
func (s *status) judge() {
	for _, step := range []func(*status) (verdict, []string){
		(*status).withoutWorkers, (*status).halted, (*status).unowned, (*status).paused, (*status).outage, (*status).stalled,
	} {
		if v, why := step(s); v != "" {
			s.Verdict, s.Why = v, why
			return
		}
	}
	s.Verdict, s.Why = verdictDelivering, []string{}
	if s.Backlog.Pending == 0 {
		s.Verdict = verdictIdle
	}
}

func (s *status) withoutWorkers() (verdict, []string) {
	if len(s.Workers) > 0 {
		return "", nil
	}
	return verdictNoWorkers, []string{"no worker has shown itself lately; start `meterworker run`, or see its log"}
}

func (s *status) halted() (verdict, []string) {
	why := slices.Clone(s.ToDeclare)
	why = append(why, s.inState(delivery.StateHalted)...)
	if len(why) == 0 {
		return "", nil
	}
	return verdictHalted, why
}

func (s *status) unowned() (verdict, []string) {
	if len(s.stayedUnowned) == 0 {
		return "", nil
	}
	return verdictUnowned, []string{fmt.Sprintf("%d of %d partitions: %s", len(s.stayedUnowned), s.Partitions, ranges(s.stayedUnowned))}
}

func (s *status) paused() (verdict, []string) {
	if !s.Orders.Paused {
		return "", nil
	}
	why := fmt.Sprintf("by %s at %s; `meterworker resume` ends it", s.Orders.By, s.Orders.At)
	if s.Orders.Why != "" {
		why += "; why: " + s.Orders.Why
	}
	return verdictPaused, []string{why}
}

func (s *status) outage() (verdict, []string) {
	why := append(s.inState(delivery.StateOpen), s.inState(delivery.StateHalfOpen)...)
	if len(why) == 0 {
		return "", nil
	}
	return verdictWaiting, why
}

func (s *status) stalled() (verdict, []string) {
	f := s.Flow
	if f == nil || s.Backlog.Ready == 0 || s.Backlog.OldestSeconds < stalledAfter.Seconds() || f.Settled > 0 || s.Rate.Used > 0 {
		return "", nil
	}
	return verdictStalled, []string{fmt.Sprintf("%d messages could be sent and nothing was settled for %s; run `meterworker doctor`", s.Backlog.Ready, seconds(f.OverSeconds))}
}

// inState names the workers in a state of the breaker, with their reasons.
func (s *status) inState(state string) []string {
	var named []string
	for _, w := range s.Workers {
		if w.State == state {
			named = append(named, w.Name+": "+describeState(w.State, w.Reason))
		}
	}
	return named
}

// ranges writes 0, 1, 2, 5 as 0-2, 5.
func ranges(sorted []int) string {
	var parts []string
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		part := fmt.Sprint(sorted[i])
		if j > i {
			part = fmt.Sprintf("%d-%d", sorted[i], sorted[j])
		}
		parts, i = append(parts, part), j+1
	}
	return strings.Join(parts, ", ")
}
