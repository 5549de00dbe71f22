package main

import (
	"maps"
	"slices"
	"time"
)

// status is the form of a look for programs; docs/status.md has its fields. Lists are never
// null, and flow is, where there was no second look.
type status struct {
	At          string         `json:"at"`
	Verdict     verdict        `json:"verdict"`
	Why         []string       `json:"why"`
	Mode        string         `json:"mode"`
	Partitions  int            `json:"partitions"`
	Backlog     statusBacklog  `json:"backlog"`
	Flow        *statusFlow    `json:"flow"`
	Rate        statusRate     `json:"rate"`
	Workers     []statusWorker `json:"workers"`
	Unowned     []int          `json:"unowned"`
	DeadLetters statusLetters  `json:"dead_letters"`
	Orders      statusOrders   `json:"orders"`
	ToDeclare   []string       `json:"to_declare"`
	Streams     []statusStream `json:"streams"`

	stayedUnowned []int // at both looks: a partition changes its owner in less
}

type statusBacklog struct {
	Pending       int     `json:"pending"`
	Ready         int     `json:"ready"`
	InHand        int     `json:"in_hand"`
	InBackOff     int     `json:"in_back_off"`
	OldestAt      string  `json:"oldest_at"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

type statusFlow struct {
	OverSeconds float64  `json:"over_seconds"`
	Published   float64  `json:"published"`
	Settled     float64  `json:"settled"`
	EtaSeconds  *float64 `json:"eta_seconds"`
}

type statusRate struct {
	Configured  float64 `json:"configured"`
	InForce     float64 `json:"in_force"`
	Used        float64 `json:"used"`
	PausedUntil string  `json:"paused_until"`
}

type statusWorker struct {
	Name           string  `json:"name"`
	State          string  `json:"state"`
	Reason         string  `json:"reason"`
	Partitions     []int   `json:"partitions"`
	Rate           float64 `json:"rate"`
	Held           int     `json:"held"`
	LedgerBytes    int64   `json:"ledger_bytes"`
	LedgerMaxBytes int64   `json:"ledger_max_bytes"`
}

type statusLetters struct {
	Total    int            `json:"total"`
	ByReason map[string]int `json:"by_reason"`
}

type statusOrders struct {
	Paused bool   `json:"paused"`
	By     string `json:"by"`
	Why    string `json:"why"`
	At     string `json:"at"`
}

type statusStream struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	OldestAt string `json:"oldest_at"`
}

// newStatus puts a look into words; before is an earlier one, nil where there is none.
func newStatus(before, now *look) status {
	s := status{
		At: rfc3339(now.ServerTime), Mode: now.Mode, Partitions: now.Partitions, Unowned: now.Unowned(),
		DeadLetters: statusLetters{ByReason: map[string]int{}}, ToDeclare: []string{},
		Workers: workersOf(now), Streams: []statusStream{}, Rate: statusRate{Configured: now.rate.Configured, InForce: now.rate.Rate},
	}
	for _, w := range s.Workers {
		s.Rate.Used += w.Rate
	}
	if now.rate.Paused.After(now.ServerTime) {
		s.Rate.PausedUntil = rfc3339(now.rate.Paused)
	}
	if o := now.Orders; !o.At.IsZero() {
		s.Orders = statusOrders{Paused: o.Paused, By: o.By, Why: o.Why, At: rfc3339(o.At)}
	}
	for reason, n := range now.Letters {
		s.DeadLetters.Total += n
		s.DeadLetters.ByReason[string(reason)] += n
	}
	for _, f := range now.Findings {
		s.ToDeclare = append(s.ToDeclare, f.String())
	}
	for _, size := range now.Sizes {
		s.Streams = append(s.Streams, statusStream{size.Stream, size.Messages, size.Bytes, max(size.MaxBytes, 0), rfc3339(size.First)})
	}
	s.Backlog = backlogOf(now)
	s.compare(before, now)
	s.judge()
	return s
}

// unknownStatus is for a look that failed.
func unknownStatus(at time.Time, err error) status {
	s := status{
		At: rfc3339(at), Verdict: verdictUnknown, Why: []string{}, Workers: []statusWorker{}, Unowned: []int{},
		DeadLetters: statusLetters{ByReason: map[string]int{}}, ToDeclare: []string{}, Streams: []statusStream{},
	}
	if err != nil {
		s.Why = append(s.Why, err.Error())
	}
	return s
}

// backlogOf tells what is in hand from what was handed back with a delay by what the workers
// say to hold: the server counts the two together.
func backlogOf(now *look) statusBacklog {
	w, held := now.Waiting, 0
	for _, m := range now.Live() {
		held += m.Held
	}
	held = min(held, w.Unacked)
	b := statusBacklog{Pending: w.Ready + w.Unacked, Ready: w.Ready, InHand: held, InBackOff: w.Unacked - held, OldestAt: rfc3339(w.Oldest)}
	if !w.Oldest.IsZero() {
		b.OldestSeconds = max(now.ServerTime.Sub(w.Oldest).Seconds(), 0)
	}
	return b
}

func workersOf(now *look) []statusWorker {
	workers := []statusWorker{}
	live := now.Live()
	for _, name := range slices.Sorted(maps.Keys(live)) {
		m := live[name]
		workers = append(workers, statusWorker{
			Name: name, State: m.State, Reason: m.Reason, Partitions: append([]int{}, m.Owns...), Rate: m.Rate, Held: m.Held,
			LedgerBytes: m.Ledger, LedgerMaxBytes: m.LedgerOf,
		})
	}
	return workers
}

// compare tells what moved between two looks. What was settled is what was published and
// does not wait; the looks take milliseconds each, so it can come out a little below 0.
func (s *status) compare(before, now *look) {
	s.stayedUnowned = s.Unowned
	if before == nil {
		return
	}
	s.stayedUnowned = slices.DeleteFunc(before.Unowned(), func(p int) bool { return !slices.Contains(s.Unowned, p) })
	over := now.ServerTime.Sub(before.ServerTime).Seconds()
	if over <= 0 || now.Stored < before.Stored {
		return
	}
	published := float64(now.Stored - before.Stored)
	grown := float64(s.Backlog.Pending - backlogOf(before).Pending)
	f := &statusFlow{OverSeconds: over, Published: published / over, Settled: max(published-grown, 0) / over}
	if drained := f.Settled - f.Published; s.Backlog.Pending == 0 || drained > 0 {
		eta := 0.0
		if s.Backlog.Pending > 0 {
			eta = float64(s.Backlog.Pending) / drained
		}
		f.EtaSeconds = &eta
	}
	s.Flow = f
}
