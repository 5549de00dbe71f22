package main

import (
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

// sight is a look at a healthy fleet of one, to be changed.
func sight(change ...func(*look)) *look {
	at := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	l := &look{Survey: outbox.Survey{
		Mode: "live", Partitions: 2, Stored: 100, ServerTime: at,
		Members: outbox.Look{"a": {Beat: 1, Owns: []int{0, 1}, Showing: outbox.Showing{State: delivery.StateClosed}}},
	}}
	for _, c := range change {
		c(l)
	}
	return l
}

func shows(s outbox.Showing, owns ...int) func(*look) {
	return func(l *look) { l.Members = outbox.Look{"a": {Beat: 2, Owns: owns, Showing: s}} }
}

func waits(ready, unacked int, age time.Duration) func(*look) {
	return func(l *look) {
		l.Waiting = outbox.Waiting{Ready: ready, Unacked: unacked, Oldest: l.ServerTime.Add(-age)}
	}
}

func later(d time.Duration, stored uint64) func(*look) {
	return func(l *look) { l.ServerTime, l.Stored = l.ServerTime.Add(d), stored }
}

func TestVerdicts(t *testing.T) {
	both := []int{0, 1}
	pausedLook := func(l *look) { l.Orders = outbox.Orders{Paused: true, By: "eve", At: l.ServerTime, Why: "lunch"} }
	for _, tt := range []struct {
		name          string
		before, after *look
		want          verdict
		why           string
	}{
		{"no usage", sight(), sight(later(2*time.Second, 100)), verdictIdle, ""},
		{"backlog, one look", nil, sight(waits(5, 0, time.Hour)), verdictDelivering, ""},
		{"backlog that moves", sight(waits(5, 0, time.Hour)), sight(waits(4, 0, time.Hour), later(2*time.Second, 100)), verdictDelivering, ""},
		{"backlog that stands", sight(waits(5, 0, time.Hour)), sight(waits(5, 0, time.Hour), later(2*time.Second, 100)), verdictStalled, "doctor"},
		{"young backlog that stands", sight(waits(5, 0, time.Second)), sight(waits(5, 0, 3*time.Second), later(2*time.Second, 100)), verdictDelivering, ""},
		{"stands, but requests go out", sight(waits(5, 0, time.Hour)), sight(waits(5, 0, time.Hour), later(2*time.Second, 100), shows(outbox.Showing{State: "closed", Rate: 3}, both...)), verdictDelivering, ""},
		{"all in back-off", sight(waits(0, 5, time.Hour)), sight(waits(0, 5, time.Hour), later(2*time.Second, 100)), verdictDelivering, ""},
		{"everybody silent", sight(), sight(func(l *look) { l.Silent = outbox.GoneAfter + time.Second }), verdictNoWorkers, "meterworker run"},
		{"no member", nil, sight(func(l *look) { l.Members = outbox.Look{} }), verdictNoWorkers, ""},
		{"halted", nil, sight(shows(outbox.Showing{State: delivery.StateHalted, Reason: "401"}, both...)), verdictHalted, "a: halted: 401"},
		{"a stream is gone", nil, sight(func(l *look) { l.Findings = []outbox.Finding{{Stream: outbox.JournalStream, Break: outbox.Gone}} }), verdictHalted, "accept-restored"},
		{"unowned at both looks", sight(shows(outbox.Showing{State: "closed"}, 0)), sight(shows(outbox.Showing{State: "closed"}, 0)), verdictUnowned, "1 of 2 partitions: 1"},
		{"unowned for a moment", sight(), sight(shows(outbox.Showing{State: "closed"}, 0)), verdictIdle, ""},
		{"paused", nil, sight(pausedLook, waits(5, 0, time.Hour)), verdictPaused, "why: lunch"},
		{"open", nil, sight(shows(outbox.Showing{State: delivery.StateOpen, Reason: "5 of 5"}, both...)), verdictWaiting, "a: open: 5 of 5"},
		{"half-open", nil, sight(shows(outbox.Showing{State: delivery.StateHalfOpen}, both...)), verdictWaiting, "a: half-open"},
		{"ramp", nil, sight(shows(outbox.Showing{State: delivery.StateRamp}, both...), waits(1, 0, time.Hour)), verdictDelivering, ""},
		{"halted and paused", nil, sight(pausedLook, shows(outbox.Showing{State: delivery.StateHalted}, both...)), verdictHalted, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStatus(tt.before, tt.after)
			if s.Verdict != tt.want || !strings.Contains(strings.Join(s.Why, "\n"), tt.why) {
				t.Errorf("%s %q, want %s and %q", s.Verdict, s.Why, tt.want, tt.why)
			}
			if healthy := tt.want == verdictIdle || tt.want == verdictDelivering; s.Verdict.healthy() != healthy || healthy != (len(s.Why) == 0) {
				t.Errorf("healthy %v, why %q", s.Verdict.healthy(), s.Why)
			}
		})
	}
}

func TestStatusFlow(t *testing.T) {
	for _, tt := range []struct {
		name               string
		before, after      *look
		published, settled float64
		eta                float64 // below 0: not known
		text               string
	}{
		{"drains", sight(waits(100, 0, time.Hour)), sight(waits(60, 20, time.Hour), later(2*time.Second, 120)), 10, 20, 8, "gone in 8s"},
		{"grows", sight(), sight(waits(40, 0, time.Second), later(2*time.Second, 150)), 25, 5, -1, "grows"},
		{"stands", sight(waits(9, 0, time.Hour)), sight(waits(9, 0, time.Hour), later(2*time.Second, 100)), 0, 0, -1, "does not shrink"},
		{"nothing", sight(), sight(later(2*time.Second, 100)), 0, 0, 0, "0.0/s settled"},
		{"counted a little late", sight(), sight(waits(1, 0, 0), later(2*time.Second, 100)), 0, 0, -1, "does not shrink"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStatus(tt.before, tt.after)
			if s.Flow == nil || s.Flow.Published != tt.published || s.Flow.Settled != tt.settled || s.Flow.OverSeconds != 2 {
				t.Fatalf("flow %+v", s.Flow)
			}
			if eta := s.Flow.EtaSeconds; (eta == nil) != (tt.eta < 0) || eta != nil && *eta != tt.eta {
				t.Errorf("eta %v, want %v", eta, tt.eta)
			}
			if !strings.Contains(s.flowText(), tt.text) {
				t.Errorf("%q lacks %q", s.flowText(), tt.text)
			}
		})
	}
	if s := newStatus(nil, sight()); s.Flow != nil || s.flowText() != "not known after one look" {
		t.Errorf("one look: %+v", s.Flow)
	}
	if s := newStatus(sight(), sight(later(time.Second, 50))); s.Flow != nil {
		t.Errorf("a stream made anew in between: %+v", s.Flow)
	}
}

func TestStatusText(t *testing.T) {
	l := sight(waits(5, 3, 50*time.Hour), later(2*time.Second, 120), shows(outbox.Showing{State: "closed", Reason: "\x1b[2Jx", Rate: 2, Held: 2, Ledger: 1 << 20, LedgerOf: 1 << 30}, 0, 1))
	l.Letters = map[deadletter.Reason]int{deadletter.Rejected: 2}
	l.Sizes = []outbox.Size{{Stream: "USAGE", Messages: 9, Bytes: 512, MaxBytes: 1024}, {Stream: "USAGE_DLQ"}}
	l.rate = ratelimit.InForce{Configured: 1000, Rate: 500}
	var b strings.Builder
	if err := printStatus(&b, newStatus(sight(waits(10, 0, 50*time.Hour)), l)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"delivering  2026-01-10T12:00:02Z  live mode\n", "8 pending: 5 ready, 2 in hand, 1 in back-off; the oldest for 2.1 days",
		"2.0/s used of 500.0/s in force (configured 1000.0/s)", "2: rejected 2", "512 B of 1.0 KiB (50 %)", "1.0 MiB of 1.0 GiB (0 %)", "0-1", `\x1b[2Jx`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q in\n%s", want, b.String())
		}
	}
}
