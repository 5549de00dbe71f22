package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

// checkStreams says what the worker would refuse at its start.
func checkStreams(k facts) []finding {
	const check = "streams"
	if k.nats.err != nil || k.nats.jsErr != nil {
		return nil
	}
	err := k.outbox.openErr
	refused, isRefused := errors.AsType[*outbox.Refused](err)
	switch {
	case err == nil:
		return []finding{fine(check, "streams and %d consumers are as the worker wants them", k.cfg.Partitions)}
	case isRefused:
		var found []finding
		for _, problem := range refused.Problems {
			detail, remedy := partProblem(problem)
			found = append(found, fine(check, "%s", detail).problem(remedy))
		}
		return found
	case isDenial(err):
		return []finding{denialFinding(check, err)}
	default:
		return []finding{fine(check, "cannot be read: %v", err).problem("see that the NATS server answers and has a quorum")}
	}
}

// partProblem parts what is wrong from what to do: "stream USAGE: storage is memory: recreate
// it", or "stream USAGE does not exist; create it".
func partProblem(text string) (detail, remedy string) {
	for _, mark := range []string{" is ", " exist"} {
		_, after, found := strings.Cut(text, mark)
		if !found {
			continue
		}
		if at := strings.IndexAny(after, ":;"); at >= 0 && at+1 < len(after) {
			cut := len(text) - len(after) + at
			return text[:cut], strings.TrimSpace(text[cut+1:])
		}
	}
	return text, "mend it as docs/nats.md says, or have `meterworker provision` create what is missing"
}

// checkContinuity names streams that are not what they were.
func checkContinuity(k facts) []finding {
	const check = "streams.continuity"
	if k.outbox.lookErr != nil {
		if errors.Is(k.outbox.openErr, k.outbox.lookErr) || k.nats.err != nil {
			return nil
		}
		if isDenial(k.outbox.lookErr) {
			return []finding{denialFinding(check, k.outbox.lookErr)}
		}
		return []finding{fine(check, "cannot be told: %v", k.outbox.lookErr).warn("mend what is said about the streams first")}
	}
	if k.control.Partitions == 0 {
		return nil // nobody looked
	}
	if len(k.control.Findings) == 0 {
		return []finding{fine(check, "every stream holds what it is known to have held")}
	}
	var found []finding
	for _, f := range k.control.Findings {
		detail, remedy, _ := strings.Cut(f.String(), "; ")
		found = append(found, fine(check, "%s", detail).problem(remedy))
	}
	return found
}

func checkPermissions(k facts) []finding {
	const check = "permissions"
	var found []finding
	for _, tried := range k.probes {
		if tried.err == nil {
			continue
		}
		f := fine(check, "%s: no answer at %q: %v", tried.what, tried.subject, tried.err).warn("see that the NATS server answers")
		if d, ok := errors.AsType[*denial](tried.err); ok {
			f = fine(check, "%s: this NATS user may not %s to %q", tried.what, d.operation, d.subject).warn(d.remedy())
		}
		found = append(found, f)
	}
	if len(found) == 0 && len(k.probes) > 0 {
		found = []finding{fine(check, "this NATS user may do what an operator does")}
	}
	return found
}

// seen tells whether the workers could be asked about.
func (k facts) seen() bool { return k.outbox.lookErr == nil && k.control.Partitions > 0 }

func checkWorkers(k facts) []finding {
	const check = "workers"
	if !k.seen() {
		return nil
	}
	live := k.control.Live()
	if len(live) == 0 {
		return []finding{fine(check, "none is there").problem("start `meterworker run`, or see its log: it may be unable to reach NATS")}
	}
	var found []finding
	for _, name := range slices.Sorted(maps.Keys(live)) {
		m := live[name]
		f := fine(check, "%s is %s", name, describeState(m.State, m.Reason))
		switch m.State {
		case delivery.StateHalted:
			f = f.problem("do what the reason says; for a refused key put a good one into the key file; then `meterworker resume`")
		case delivery.StateOpen, delivery.StateHalfOpen:
			f = f.warn("look at Stripe's status page and the way to it; it ends by itself")
		case delivery.StatePaused:
			f = f.warn("`meterworker resume`")
		default:
		}
		found = append(found, f)
	}
	return found
}

func checkPartitions(k facts) []finding {
	const check = "workers.partitions"
	if !k.seen() || len(k.control.Live()) == 0 {
		return nil
	}
	unowned := k.control.Unowned()
	if len(unowned) == 0 {
		return []finding{fine(check, "all %d partitions have an owner", k.control.Partitions)}
	}
	return []finding{fine(check, "%d of %d partitions have no owner: %s", len(unowned), k.control.Partitions, ranges(unowned)).
		problem("see the workers' logs for \"partition lost\" and \"cannot take\"; a worker that is not ready names what it waits for in /readyz")}
}

// nearLedgerCap is where the oldest days are soon dropped from the ledger.
const nearLedgerCap = 0.9

func checkLedger(k facts) []finding {
	const check = "workers.ledger"
	if !k.seen() {
		return nil
	}
	var found []finding
	live := k.control.Live()
	for _, name := range slices.Sorted(maps.Keys(live)) {
		m := live[name]
		if m.LedgerOf <= 0 {
			continue // a worker of an earlier version does not say
		}
		f := fine(check, "%s uses %s", name, ofMost(uint64(max(m.Ledger, 0)), m.LedgerOf))
		if float64(m.Ledger) >= nearLedgerCap*float64(m.LedgerOf) {
			f.Detail += ": beyond the limit it forgets the oldest days, and older usage becomes ambiguous"
			f = f.warn("raise METERWORKER_LEDGER_MAX_BYTES, or run more workers")
		}
		found = append(found, f)
	}
	return found
}

func checkBacklog(k facts) []finding {
	const check = "backlog"
	if !k.seen() {
		return nil
	}
	b := backlogOf(&k.control)
	f := fine(check, "%s", b.text())
	const remedy = "`meterworker status --watch` shows whether it moves; docs/runbook.md says what holds it"
	switch age := time.Duration(b.OldestSeconds * float64(time.Second)); {
	case age >= 24*time.Hour:
		return []finding{f.problem(remedy)}
	case age >= time.Hour:
		return []finding{f.warn(remedy)}
	default:
		return []finding{f}
	}
}

func checkOrders(k facts) []finding {
	if !k.seen() || !k.control.Orders.Paused {
		return nil
	}
	return []finding{fine("orders", "paused %s", pausedBy(k.control.Orders)).warn("`meterworker resume`, when its reason is gone")}
}

func checkLetters(k facts) []finding {
	const check = "dead_letters"
	if !k.seen() {
		return nil
	}
	total := 0
	for _, n := range k.control.Letters {
		total += n
	}
	if total == 0 {
		return []finding{fine(check, "none waits")}
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(k.control.Letters)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, k.control.Letters[reason]))
	}
	return []finding{fine(check, "%d wait: %s", total, strings.Join(parts, ", ")).
		warn("`meterworker dlq list`; Stripe takes an event for 35 days")}
}
