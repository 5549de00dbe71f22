package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// handsOn is everything that the commands which change letters print about one.
func handsOn(t *testing.T, l replay.Letter, text string, id uint64) string {
	t.Helper()
	var b, table bytes.Buffer
	group := replay.Group{Reason: l.Reason, Code: text, Count: 1, Oldest: l.DeadAt, EventNames: []string{text, "b", "c", "d", "e", "f"}, MoreNames: true}
	record := audit.Record{
		Run: text, Stage: audit.Stage(text), Action: audit.Action(text), Why: text, Note: text, Command: []string{text}, Counts: map[string]int{text: 1},
		Who: audit.Who{Actor: text, User: text, NATSUser: text}, Changes: map[string]audit.Change{text: {From: text, To: text}},
		Letters: []audit.Letter{{ID: id, Reason: text, EventName: text, Customer: text, Before: text, After: text + "~r1", Outcome: text, Detail: text}},
	}
	result := record
	result.Stage = audit.Result
	err := errors.Join(
		printGroupRow(&b, group, 1), printGroupJSON(&b, group, 1), printRecord(&b, record, 1, true), printRecord(&b, result, 2, true),
		writeJSONLine(&b, newRecordObject(record)), writeJSONLine(&b, newExportObject(l)), writeCSVLine(&table, csvFields(l)),
	)
	edited := l
	edited.Reason, edited.Outcome, edited.Fault = deadletter.Rejected, deadletter.Refused, nil
	if body, assigned := replay.Assign(l.Body, []string{"payload." + text + "x=" + text, "event_name=a", "payload.value=1", "payload.stripe_customer_id=c"}, nil); assigned == nil {
		if revision, refusal := replay.Revise(edited, body, replay.Permission{}, time.Now()); refusal == "" {
			err = errors.Join(err, printRevision(&b, edited, revision))
		} else {
			b.WriteString(escapeText(refusal) + "\n")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString(fateText(replay.Fate{ID: id, Ending: replay.DiedAgain, Letter: id, Reason: l.Reason}) + "\n")
	line, ended := strings.CutSuffix(table.String(), "\r\n")
	rows, err := csv.NewReader(strings.NewReader(line)).ReadAll()
	if !ended || err != nil || len(rows) != 1 || len(rows[0]) != len(exportColumns) {
		t.Fatalf("no line of CSV: %q, %v", line, err)
	}
	for i, field := range rows[0] {
		if strings.IndexAny(strings.TrimLeft(field, " "), "=+@") == 0 || strings.HasPrefix(field, "-") && !plainNumber.MatchString(field) {
			t.Errorf("a spreadsheet would run %s %q", exportColumns[i], field)
		}
	}
	return b.String() + line + "\n"
}
