package examples

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// block is one fenced block of the page and the comment before it, which says what holds it to
// the truth.
type block struct{ mark, info, text string }

const fence = "```"

// page reads docs/publishing.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "publishing.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func blocks(t *testing.T, text string) []block {
	t.Helper()
	pattern := regexp.MustCompile("(?ms)^(?:<!-- ([^\n]+) -->\n)?" + fence + "([a-z]*)\n(.*?)^" + fence + "$")
	var all []block
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		all = append(all, block{match[1], match[2], match[3]})
	}
	if fences := len(regexp.MustCompile("(?m)^"+fence).FindAllString(text, -1)); fences != 2*len(all) {
		t.Fatalf("%d fences make no %d blocks", fences, len(all))
	}
	return all
}

// Every block is run, is an excerpt of a file, or says that it is not run.
func TestEveryBlockOfThePageIsHeldToTheTruth(t *testing.T) {
	kinds := map[string]int{}
	for _, b := range blocks(t, page(t)) {
		kind, file, _ := strings.Cut(b.mark, ": ")
		kinds[kind]++
		switch kind {
		case "run", "output": // see TestPageAsAUser
		case "not run":
		case "message":
			checkMessage(t, b.text)
		case "excerpt":
			checkExcerpt(t, file, b.text)
		default:
			t.Errorf("the block %q has the mark %q, which nothing checks", b.text, b.mark)
		}
	}
	for _, kind := range []string{"run", "output", "message", "excerpt"} {
		if kinds[kind] == 0 {
			t.Errorf("no block is marked %q: the page is not read as it is written", kind)
		}
	}
	if kinds["not run"] > 1 {
		t.Errorf("%d blocks are not run, want the one that installs nats-py", kinds["not run"])
	}
}

// checkMessage reads the message as the worker would have at its own time.
func checkMessage(t *testing.T, text string) {
	t.Helper()
	var body struct {
		Timestamp int64 `json:"timestamp"`
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	_, err := usage.Parse(usage.Message{Subject: usage.EventsSubject("api_calls", "cus_123"), Body: []byte(text)}, time.Unix(body.Timestamp, 0))
	if err != nil {
		t.Errorf("the message of the page: %v", err)
	}
}

func checkExcerpt(t *testing.T, file, text string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(text, "\n")
	for line := range strings.Lines(string(source)) {
		indent, found := strings.CutSuffix(strings.TrimSuffix(line, "\n"), first)
		if found && strings.TrimSpace(indent) == "" && strings.Contains(string(source), indented(text, indent)) {
			return
		}
	}
	t.Errorf("this is no excerpt of %s:\n%s", file, text)
}

func indented(text, indent string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

// The page's table of subjects, its table of rules and its list of error codes.
func TestTablesOfThePage(t *testing.T) {
	text := page(t)
	subjects := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| `(usage\\.events\\.[^`]+)` \\|$").FindAllStringSubmatch(text, -1)
	if len(subjects) < 4 {
		t.Errorf("%d subjects in the table, want 4 or more", len(subjects))
	}
	for _, row := range subjects {
		if want := usage.EventsSubject(row[1], row[2]); row[3] != want {
			t.Errorf("the page has subject %s for %q and %q, want %s", row[3], row[1], row[2], want)
		}
	}
	for _, reason := range []usage.Reason{
		usage.Undecodable, usage.TooLarge, usage.SubjectMismatch, usage.InvalidEventName, usage.InvalidIdentifier, usage.InvalidPayload,
		usage.NoCustomer, usage.InvalidValue, usage.TimestampTooFarInPast, usage.TimestampInFuture, "identifier_conflict",
	} {
		if !strings.Contains(text, "`"+string(reason)+"`") {
			t.Errorf("the page does not name the reason %s", reason)
		}
	}
}

// The commands of the page, in order, as a user would run them from the sources with a
// worker running: each prints what the page shows, and what they publish is billed once.
func TestPageAsAUser(t *testing.T) {
	installed(t)
	w := newWorld(t)
	var last outcome
	for _, b := range blocks(t, page(t)) {
		switch b.mark {
		case "run":
			if last = run(t, w.nats.ClientURL(), b.text, ""); last.code != 0 {
				t.Fatalf("exit %d of\n%s\n%s\n%s", last.code, b.text, last.lines, last.stderr)
			}
		case "output":
			if want := strings.Split(strings.TrimSuffix(b.text, "\n"), "\n"); !slices.Equal(last.lines, want) {
				t.Errorf("printed\n%q, the page has\n%q", last.lines, want)
			}
		}
	}
	w.settled()
	billed(t, w, map[string]string{
		"req-1": "api_calls cus_123 1024", "req-2": "api_calls ümläut *> 7", "req-3": "api_calls cus_123 -24",
		"req-4": "api_calls cus_123 5", "req-5": "api_calls cus_123 6", "req-6": "api_calls cus_123 7",
	})
	if letters := w.letters(); len(letters) != 0 {
		t.Errorf("dead letters: %v", letters)
	}
	messageIDs(t, w, 6)
	for file, document := range map[string][]byte{"usage-event.schema.json": usage.Schema(), "usage-events.asyncapi.json": usage.AsyncAPI()} {
		if text, err := os.ReadFile(filepath.Join(copied, file)); err != nil || string(text) != string(document) {
			t.Errorf("%s is not the document: %v", file, err)
		}
	}
}

// messageIDs recomputes the ids of all that is stored.
func messageIDs(t *testing.T, w *world, stored uint64) {
	t.Helper()
	stream, err := w.js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= stored; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			EventName string `json:"event_name"`
			Payload   struct {
				Customer string `json:"stripe_customer_id"`
			} `json:"payload"`
		}
		if err := json.Unmarshal(message.Data, &body); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(usage.EventsSubject(body.EventName, body.Payload.Customer) + "\x00" + string(message.Data)))
		if got, want := message.Header.Get("Nats-Msg-Id"), hex.EncodeToString(sum[:16]); got != want {
			t.Errorf("message %d has the id %q, want %q", sequence, got, want)
		}
	}
}

// billed compares what Stripe was sent and counted: meter, customer and value, by identifier.
func billed(t *testing.T, w *world, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for identifier, form := range w.stripe.requests(t) {
		got[identifier] = fmt.Sprintf("%s %s %s", form.Get("event_name"), form.Get("payload[stripe_customer_id]"), form.Get("payload[value]"))
	}
	for identifier := range want {
		if got[identifier] != want[identifier] {
			t.Errorf("%s: billed %q, want %q", identifier, got[identifier], want[identifier])
		}
		delete(got, identifier)
	}
	if len(got) != 0 {
		t.Errorf("also billed: %v", got)
	}
	for _, event := range w.stripe.Books().Events {
		if event.Times != 1 {
			t.Errorf("%s was counted %d times", event.Identifier, event.Times)
		}
	}
	if counted := int(w.stripe.Totals().Counted); counted != len(want) {
		t.Errorf("%d events counted, want %d", counted, len(want))
	}
}
