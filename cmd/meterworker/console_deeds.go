package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/replay"
)

// personOf is who the audit trail names. The console knows no users: it is whoever has its
// address and its token, by the name they give.
func personOf(who console.Who, conn *client) audit.Who {
	return audit.Who{Actor: cmp.Or(who.Name, "console"), User: "console@" + who.Remote, NATSUser: natsUser(conn.cfg)}
}

// Reasons implements console.Operator.
func (k *desk) Reasons() []string { return knownReasons() }

// Actions implements console.Operator.
func (k *desk) Actions() []string {
	var actions []string
	for _, action := range audit.Actions() {
		actions = append(actions, string(action))
	}
	return actions
}

// deedFor is what a deed does to letters, with the permission that was given.
func deedFor(ctx context.Context, conn *client, letters *replay.Letters, d console.Deed) (deed, error) {
	if d.Kind == console.Discard {
		return discardDeed(letters), nil
	}
	one := replayDeed(letters, replay.Permission{AcceptDoubleBilling: d.Accepted, Hopeless: d.Hopeless})
	if d.Accepted {
		return one, nil
	}
	var err error
	one.judge, err = unlessEdited(ctx, conn, one.judge)
	return one, err
}

// mostRefusals bounds the kinds of refusals that are told apart: some name a letter.
const mostRefusals = 20

// Foresee implements console.Operator.
func (k *desk) Foresee(ctx context.Context, d console.Deed) (*console.Forecast, error) {
	f, err := filterOf(d.Query, time.Now())
	if err != nil {
		return nil, err
	}
	forecast := &console.Forecast{}
	reasons, refused := map[string]int{}, map[string]int{}
	err = k.withLetters(ctx, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		one, err := deedFor(ctx, conn, letters, d)
		if err != nil {
			return err
		}
		return letters.Each(ctx, f, func(l replay.Letter) error {
			forecast.Count++
			forecast.Last = l.ID
			reasons[string(l.Reason)]++
			result := one.judge(l)
			if result.Outcome == one.possible {
				forecast.Possible++
				return nil
			}
			why := pageWords.Replace(result.Detail)
			if refused[why] == 0 && len(refused) == mostRefusals {
				why = "other reasons, which the run names"
			}
			refused[why]++
			return nil
		})
	})
	forecast.ByReason, forecast.Refused = counted(reasons), counted(refused)
	return forecast, err
}

// counted lists counts, the largest first.
func counted(counts map[string]int) []console.Count {
	var all []console.Count
	for name, n := range counts {
		all = append(all, console.Count{Name: name, N: n})
	}
	slices.SortFunc(all, func(a, b console.Count) int { return cmp.Or(b.N-a.N, strings.Compare(a.Name, b.Name)) })
	return all
}

// Do implements console.Operator.
func (k *desk) Do(ctx context.Context, d console.Deed, report func(console.Step)) error {
	return k.withLetters(ctx, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		f, err := k.follow(ctx, letters, d, report)
		if err != nil {
			return err
		}
		trail, err := audit.Open(ctx, conn.js)
		if err != nil {
			return err // names the stream
		}
		action := map[console.Kind]audit.Action{console.Replay: audit.Replay, console.Revise: audit.Edit, console.Discard: audit.Discard}[d.Kind]
		record := trail.Begin(action, personOf(d.Who, conn), strings.TrimSpace(d.Why), recordedArguments(d.Asked))
		if d.Kind == console.Revise {
			err = k.publishEdit(ctx, conn, letters, record, d, f)
		} else {
			err = k.runDeed(ctx, conn, letters, record, d, f)
		}
		if err != nil || ctx.Err() != nil || f.left() == 0 {
			return err
		}
		report(console.Step{Acted: true})
		f.await(ctx)
		return nil
	})
}

// runDeed is the run of the commands, without a terminal.
func (k *desk) runDeed(ctx context.Context, conn *client, letters *replay.Letters, record *audit.Run, d console.Deed, f *following) error {
	filter, err := filterOf(d.Query, time.Now())
	if err != nil {
		return err
	}
	one, err := deedFor(ctx, conn, letters, d)
	if err != nil {
		return err
	}
	run := &letterRun{
		deed: one, selection: LetterSelection{Yes: true}, process: &process{Err: io.Discard}, letters: letters, record: record,
		refusal: conn.refusal, progress: &progress{}, pace: newPace(d.Rate),
	}
	run.deed.each = func(r replay.Result) error {
		f.heard(ctx, run.selected, r)
		return nil
	}
	err = run.run(ctx, d.IDs, filter)
	if _, counted := errors.AsType[*silentError](err); counted {
		return nil
	}
	return err
}

// revised judges an edit against the letter that it was made of.
func revised(l replay.Letter, e console.Edit) (r replay.Revision, body []byte, refusal string) {
	if e.Digest != "" && e.Digest != audit.Digest(l.Body) {
		return r, nil, "the dead letter is another one now; look at it again"
	}
	body = compacted(e.Body)
	if e.Body == "" {
		set := make([]string, len(e.Set))
		for i, field := range e.Set {
			set[i] = field.Name + "=" + field.Value
		}
		var err error
		if body, err = replay.Assign(l.Body, set, e.Unset); err != nil {
			return r, nil, err.Error()
		}
	}
	r, refusal = replay.Revise(l, body, replay.Permission{AcceptDoubleBilling: e.Accepted}, time.Now())
	return r, body, pageWords.Replace(refusal)
}

// Revise implements console.Operator.
func (k *desk) Revise(ctx context.Context, id uint64, e console.Edit) (revision *console.Revision, err error) {
	err = k.withLetters(ctx, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		l, err := letters.Get(ctx, id)
		if err != nil {
			return err
		}
		r, body, refusal := revised(l, e)
		revision = &console.Revision{
			Letter: console.Letter(newLetterObject(l)), BilledAs: r.Identifier, Dated: unixText(r.Timestamp), Subject: r.Subject,
			Warning: r.Warning, Body: string(escapeJSON(body)), Digest: audit.Digest(l.Body), Refusal: refusal,
		}
		for _, change := range replay.Changes(l.Body, body) {
			revision.Changes = append(revision.Changes, console.Change(change))
		}
		return nil
	})
	return revision, err
}

// publishEdit publishes what was confirmed, judged once more.
func (k *desk) publishEdit(ctx context.Context, conn *client, letters *replay.Letters, record *audit.Run, d console.Deed, f *following) error {
	l, err := letters.Get(ctx, d.IDs[0])
	if err != nil {
		return err
	}
	r, _, refusal := revised(l, *d.Edit)
	if refusal != "" {
		f.heard(ctx, 1, replay.Result{ID: l.ID, Outcome: replay.Refused, Detail: refusal})
		return nil
	}
	result, err := publishEdit(ctx, conn, record, letters, l, r)
	if result.Outcome != "" {
		f.heard(ctx, 1, result)
	}
	return err
}

// Pause implements console.Operator.
func (k *desk) Pause(ctx context.Context, who console.Who, why string) error {
	return k.order(ctx, who, why, audit.Pause, pauseFleet)
}

// Resume implements console.Operator.
func (k *desk) Resume(ctx context.Context, who console.Who, why string) error {
	return k.order(ctx, who, why, audit.Resume, resumeFleet)
}

// order is not cut short when the page is closed.
func (k *desk) order(ctx context.Context, who console.Who, why string, action audit.Action, change func(*outbox.Orders)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), orderTimeout)
	defer cancel()
	return k.with(ctx, func(ctx context.Context, conn *client) error {
		trail, err := audit.Open(ctx, conn.js)
		if err != nil {
			return err // names the stream
		}
		person := personOf(who, conn)
		return recorded(ctx, trail.Begin(action, person, why, []string{"console", string(action)}), "the whole fleet", func() (string, error) {
			return "the order is stored", storeOrder(ctx, conn.js, change, person.Actor, why)
		})
	})
}

// orderTimeout bounds the storing of an order and of its records, tries included.
const orderTimeout = 20 * time.Second

// Audit implements console.Operator.
func (k *desk) Audit(ctx context.Context, q console.AuditQuery, visit func(console.Record) error) error {
	filter := audit.Filter{Actor: q.Actor}
	if q.Action != "" {
		filter.Actions = []audit.Action{audit.Action(q.Action)}
	}
	if q.Since != "" {
		var err error
		if filter.Since, err = parseMoment("since", &q.Since, time.Now()); err != nil {
			return err
		}
	}
	return k.with(ctx, func(ctx context.Context, conn *client) error {
		trail, err := audit.Open(ctx, conn.js)
		if err != nil {
			return err
		}
		return trail.Back(ctx, filter, q.Before, func(r audit.Record) error { return visit(newConsoleRecord(r)) })
	})
}

func newConsoleRecord(r audit.Record) console.Record {
	document, _ := json.Marshal(newRecordObject(r)) // it was decoded from JSON
	record := console.Record{
		Document: document, Sequence: r.Sequence, At: rfc3339(r.StoredAt), Action: string(r.Action), Stage: string(r.Stage), Run: r.Run,
		Actor: r.Who.Actor, User: r.Who.User, What: recordText(r), Why: r.Why,
	}
	for _, l := range r.Letters {
		record.Letters = append(record.Letters, console.RecordLetter{ID: l.ID, Text: recordedLetterText(l)})
	}
	for field, change := range r.Changes {
		record.Changes = append(record.Changes, console.Change{Field: field, From: change.From, To: change.To})
	}
	slices.SortFunc(record.Changes, func(a, b console.Change) int { return strings.Compare(a.Field, b.Field) })
	return record
}
