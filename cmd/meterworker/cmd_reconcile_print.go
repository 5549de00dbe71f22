package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/reconcile"
)

// Types of the lines of -o json. The list is closed.
const (
	lineDifference = "difference"
	lineSettlement = "settlement"
	lineSummary    = "summary"
)

// differenceObject is the form of one difference for programs; every field is always there.
type differenceObject struct {
	Type       string            `json:"type"`
	EventName  string            `json:"event_name"`
	Customer   string            `json:"customer"`
	Hour       string            `json:"hour"` // its beginning
	Meter      string            `json:"meter"`
	Formula    string            `json:"formula"`
	Verdict    string            `json:"verdict"`
	Delivered  int64             `json:"delivered"`
	Counted    float64           `json:"counted"`
	Difference float64           `json:"difference"` // counted without delivered
	Events     int64             `json:"events"`
	Waiting    int64             `json:"waiting"`
	Explained  bool              `json:"explained"`
	Minutes    []string          `json:"minutes"`
	Candidates []candidateObject `json:"candidates"`
	More       int               `json:"more_candidates"`
	ReadAt     string            `json:"read_at"`
}

type candidateObject struct {
	Kind       string `json:"kind"`
	Letter     uint64 `json:"letter"`
	Sequence   uint64 `json:"sequence"`
	Identifier string `json:"identifier"`
	Units      int64  `json:"units"`
	Count      int    `json:"count"`
	Reason     string `json:"reason"`
	Code       string `json:"code"`
	Timestamp  string `json:"timestamp"`
}

// summaryObject is the last line.
type summaryObject struct {
	Type          string   `json:"type"`
	Since         string   `json:"since"`
	Until         string   `json:"until"`
	Events        int64    `json:"events"`
	Waiting       int64    `json:"waiting"`
	Customers     int      `json:"customers"`
	Cells         int      `json:"cells"`
	Equal         int      `json:"equal"`
	Less          int      `json:"less"`
	More          int      `json:"more"`
	InFlight      int      `json:"in_flight"`
	Unsettled     int      `json:"unsettled"`
	NotComparable int      `json:"not_comparable"`
	NotRead       []string `json:"not_read"`
	Missing       int64    `json:"missing_messages"`
	Requests      int      `json:"requests"`
	Webhooks      bool     `json:"webhooks"`
}

// show prints the differences, then the summary.
func (c *ReconcileCmd) show(p *process, r reconcile.Report, received bool) error {
	for i, d := range r.Differences {
		var err error
		if c.Output == "json" {
			err = writeJSONLine(p.Out, newDifferenceObject(d))
		} else {
			err = printDifference(p.Out, d, i == 0)
		}
		if err != nil {
			return err
		}
	}
	if c.Output == "json" {
		return writeJSONLine(p.Out, newSummaryObject(r, received))
	}
	return printSummary(p.Out, r, received)
}

func newDifferenceObject(d reconcile.Difference) differenceObject {
	o := differenceObject{
		Type: lineDifference, EventName: d.EventName, Customer: d.Customer, Hour: rfc3339(d.Start()), Meter: d.Meter.ID,
		Formula: string(d.Meter.Formula), Verdict: string(d.Verdict), Delivered: d.Delivered, Counted: d.Counted, Difference: d.Difference(),
		Events: d.Events, Waiting: d.Waiting, Explained: d.Explained, More: d.More, ReadAt: rfc3339(d.ReadAt),
		Minutes: []string{}, Candidates: []candidateObject{},
	}
	for _, m := range d.Minutes {
		o.Minutes = append(o.Minutes, rfc3339(m))
	}
	for _, k := range d.Candidates {
		o.Candidates = append(o.Candidates, newCandidateObject(k))
	}
	return o
}

func newCandidateObject(k reconcile.Candidate) candidateObject {
	at := ""
	if k.Timestamp != 0 {
		at = rfc3339(time.Unix(k.Timestamp, 0))
	}
	return candidateObject{string(k.Kind), k.Letter, k.Sequence, k.Identifier, k.Units, k.Count, k.Reason, k.Code, at}
}

func newSummaryObject(r reconcile.Report, received bool) summaryObject {
	return summaryObject{
		Type: lineSummary, Since: rfc3339(r.Period.Since), Until: rfc3339(r.Period.Until), Events: r.Events, Waiting: r.Waiting,
		Customers: r.Customers, Cells: r.Cells, Equal: r.Equal, Less: r.Count(reconcile.Less), More: r.Count(reconcile.More),
		InFlight: r.Count(reconcile.Sent), Unsettled: r.Count(reconcile.Unsettled), NotComparable: r.Count(reconcile.NotComparable),
		NotRead: append([]string{}, r.NotRead...), Missing: r.Trimmed, Requests: r.Reads, Webhooks: received,
	}
}

const differenceColumns = "%-17s  %-24s  %-24s  %14s  %14s  %14s  %-14s  %s\n"

// printDifference prints one row, and what can explain it below.
func printDifference(w io.Writer, d reconcile.Difference, first bool) error {
	const wide = 64
	var b strings.Builder
	if first {
		fmt.Fprintf(&b, differenceColumns, "HOUR", "EVENT NAME", "CUSTOMER", "DELIVERED", "AT STRIPE", "DIFFERENCE", "VERDICT", "WHERE")
	}
	fmt.Fprintf(&b, differenceColumns, d.Start().Format("2006-01-02T15:04Z"), cell(d.EventName, wide), cell(d.Customer, wide),
		strconv.FormatInt(d.Delivered, 10), number(d.Counted), signed(d.Difference()), d.Verdict, minutesText(d.Minutes))
	for _, k := range d.Candidates {
		fmt.Fprintf(&b, "    %s\n", candidateText(k))
	}
	if d.More > 0 {
		fmt.Fprintf(&b, "    and %d more such events\n", d.More)
	}
	if !d.Explained && d.Verdict == reconcile.Less && len(d.Candidates) == 0 {
		fmt.Fprintf(&b, "    no event or letter of ours explains it alone; see docs/reconcile.md\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// number writes whole numbers as such.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func signed(f float64) string {
	if f > 0 {
		return "+" + number(f)
	}
	return number(f)
}

func minutesText(minutes []time.Time) string {
	const most = 5
	var texts []string
	for _, m := range minutes[:min(most, len(minutes))] {
		texts = append(texts, m.UTC().Format("15:04"))
	}
	if len(minutes) > most {
		texts = append(texts, "…")
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, " ")
}

// candidateText says in one line what can explain a difference.
func candidateText(k reconcile.Candidate) string {
	id := cell(k.Identifier, 2*255)
	switch k.Kind {
	case reconcile.RejectedLater:
		return fmt.Sprintf("dead letter %d: Stripe rejected it later (%s), identifier %s, units %d", k.Letter, cell(k.Code, 64), id, k.Units)
	case reconcile.UnknownOutcome:
		return fmt.Sprintf("dead letter %d (%s): Stripe may have counted it, identifier %s, units %d", k.Letter, cell(k.Reason, 64), id, k.Units)
	case reconcile.Conflict:
		return fmt.Sprintf("dead letter %d: another sender has used its identifier %s", k.Letter, id)
	case reconcile.ByHand:
		return fmt.Sprintf("message %d: died of an unknown outcome and was dealt with by hand, identifier %s, units %d", k.Sequence, id, k.Units)
	case reconcile.InFlight:
		return fmt.Sprintf("message %d: may have been sent, and has no final record yet, identifier %s, units %d", k.Sequence, id, k.Units)
	case reconcile.Delivered:
		return fmt.Sprintf("message %d: delivered at the time of the difference, identifier %s, units %d", k.Sequence, id, k.Units)
	case reconcile.Unnamed:
		return fmt.Sprintf("%d rejections of this meter that Stripe reported without naming them", k.Count)
	case reconcile.ForeignSender:
		return "no letter or event of ours explains it: another sender has reported usage for this customer"
	case reconcile.NoMeter:
		return "Stripe has no active meter of this event name"
	}
	return escapeText(string(k.Kind))
}

// printSummary says what was compared, and what was not.
func printSummary(w io.Writer, r reconcile.Report, received bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s: %d events delivered, %d customers on meters, %d hours of usage compared with %d requests\n",
		rfc3339(r.Period.Since), rfc3339(r.Period.Until), r.Events, r.Customers, r.Cells, r.Reads)
	fmt.Fprintf(&b, "equal %d", r.Equal)
	for _, v := range reconcile.Verdicts() {
		fmt.Fprintf(&b, ", %s %d", strings.ReplaceAll(string(v), "_", " "), r.Count(v))
	}
	b.WriteByte('\n')
	if r.Waiting > 0 {
		fmt.Fprintf(&b, "not yet delivered: at most %d events of the period\n", r.Waiting)
	}
	for _, name := range slices.Sorted(slices.Values(r.NotRead)) {
		fmt.Fprintf(&b, "not compared: %s, whose meter takes the last value of a window\n", cell(name, 128))
	}
	if r.Trimmed > 0 {
		fmt.Fprintf(&b, "not complete: %d delivered messages are not in the outbox any more; begin later\n", r.Trimmed)
	}
	if !received {
		b.WriteString("no webhooks are received here, so rejections by Stripe are not named: see docs/webhooks.md\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
