package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

// language is an example whose rules are held against those of package usage.
type language struct {
	name     string
	program  string
	packages string   // of Debian
	command  []string // answers questions; see testdata
}

func languages() []language {
	return []language{
		{"node", "node", "nodejs npm", []string{"testdata/answers.mjs", filepath.Join(root, "examples", "node")}},
		{"python", "python3", "python3", []string{"testdata/answers.py", filepath.Join(root, "examples", "python")}},
	}
}

type question struct {
	Token *string `json:"token,omitempty"`
	Body  []byte  `json:"body"`
	Now   int64   `json:"now"`
}

type answer struct {
	Token   string `json:"token"`
	Subject string `json:"subject"`
	Body    []byte `json:"body"`
	ID      string `json:"id"`
	Reason  string `json:"reason"`
}

func (l language) ask(t *testing.T, questions []question) []answer {
	t.Helper()
	needs(t, l.program, l.packages)
	var in, stdout, stderr bytes.Buffer
	for _, q := range questions {
		if err := json.NewEncoder(&in).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, l.command...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", l.program, err, &stderr)
	}
	answers := make([]answer, len(questions))
	decoder := json.NewDecoder(&stdout)
	for i := range answers {
		if err := decoder.Decode(&answers[i]); err != nil {
			t.Fatalf("answer %d of %d: %v", i, len(answers), err)
		}
	}
	return answers
}

// exception is a kind of message on which an example may differ from the parser, and why.
type exception struct {
	why     string
	pattern string // of the names of the cases
	only    string // language; "": all
	used    map[string]bool
}

// exceptions matches a case with what allows it to differ. Each must be needed.
type exceptions []exception

func (e exceptions) allow(language, name string) bool {
	for i := range e {
		if (e[i].only == "" || e[i].only == language) && regexp.MustCompile(e[i].pattern).MatchString(name) {
			e[i].used[language] = true
			return true
		}
	}
	return false
}

func (e exceptions) needed(t *testing.T) {
	t.Helper()
	for i := range e {
		if len(e[i].used) == 0 {
			t.Errorf("%q is an exception that no case needs", e[i].why)
		}
	}
}

func excepting(list ...exception) exceptions {
	for i := range list {
		list[i].used = map[string]bool{}
	}
	return list
}

const required = "the worker fills in identifier and timestamp, the examples require them"

// verdicts are the cases that an example takes and the parser refuses, or the reverse.
func verdicts() exceptions {
	return excepting(
		exception{why: required, pattern: `^(identifier|timestamp) absent$`},
		exception{why: "reading JSON drops a key that is there twice", pattern: `twice`},
		exception{why: "reading JSON drops white space", pattern: `^64 KiB \+ 1$|^NATS's max payload$`},
		exception{why: "the example makes the subject", pattern: `subject|^customer encoded`},
		exception{why: "to Node 1e3 and 1024.0 are integers", pattern: `^value (1e3|1E3|1024\.0)$|^timestamp \d+\.0$`, only: "node"},
		exception{why: "to Node 101 digits are 1e101", pattern: `^dimension of 101 digits$`, only: "node"},
	)
}

// reasons are the cases that an example refuses for another reason.
func reasons() exceptions {
	return excepting(
		exception{why: required, pattern: `^payload |^empty object$`},
		exception{why: "the size is checked last, when the bytes are there", pattern: `^identifier of 1,000,000 characters$|^64 KiB \+ 1 of something else$`},
		exception{why: "how deep JSON nests is the reader's business", pattern: `levels deep$`},
		exception{why: "to Node 1.76e9 is an integer", pattern: `^timestamp 1\.76e9$`, only: "node"},
	)
}

// spellings are the cases that an example accepts and writes otherwise than Go.
func spellings() exceptions {
	return excepting(
		exception{why: "a number that was read has lost its spelling", pattern: `^dimensions numbers and booleans$`},
		exception{why: "to Node 100 digits are 1e100", pattern: `^dimension of 100 digits$`, only: "node"},
	)
}

// cases are those that a producer can make: without headers, on the subject for events. Those
// beyond 1 MiB are refused for their size like those of 1 MiB, and slow to read.
func cases(now time.Time) (list []usagetest.Case) {
	for _, c := range append(usagetest.Cases(now), usagetest.EdgeOfWindow(now)...) {
		if c.Headers == nil && len(c.Body) <= 1<<20 && strings.HasPrefix(c.Subject, "usage.events.") {
			list = append(list, c)
		}
	}
	return append(list, ofLanguages(now)...)
}

// ofLanguages are events that languages tend to get wrong: keys whose order differs by bytes,
// by UTF-16 and by number; characters that are two units of UTF-16.
func ofLanguages(now time.Time) []usagetest.Case {
	event := func(name, identifier, more string) usagetest.Case {
		const body = `{"event_name":"api_calls","identifier":"%s","timestamp":%d,"payload":{"stripe_customer_id":"cus_123","value":1%s}}`
		return usagetest.Case{Name: name, Subject: usage.EventsSubject("api_calls", "cus_123"), Body: fmt.Appendf(nil, body, identifier, now.Unix(), more)}
	}
	return []usagetest.Case{
		event("order of keys", "order", `,"😀":"a","\uff5e":"b","9":"c","10":"d"`),
		event("identifier of 255 four-byte characters", strings.Repeat("😀", usage.MaxIdentifier), ""),
	}
}

// What the worker would bury the examples refuse, for the same reason; what it would bill
// they publish as Go does: the same subject, bytes and message id.
func TestExamplesAgreeWithParse(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	list := cases(now)
	questions := make([]question, len(list))
	for i, c := range list {
		questions[i] = question{Body: append([]byte{}, c.Body...), Now: now.Unix()}
	}
	verdicts, reasons, spellings := verdicts(), reasons(), spellings()
	schema, same := compiled(t), 0
	for _, l := range languages() {
		for i, got := range l.ask(t, questions) {
			c := list[i]
			switch {
			case (got.Reason == "") != (c.Reason == ""):
				if !verdicts.allow(l.name, c.Name) {
					t.Errorf("%s: %s: reason %q, want %q", l.name, c.Name, got.Reason, c.Reason)
				}
			case got.Reason != c.Reason:
				if !reasons.allow(l.name, c.Name) {
					t.Errorf("%s: %s: reason %q, want %q", l.name, c.Name, got.Reason, c.Reason)
				}
			}
			if got.Reason == "" {
				checkWritten(t, l.name+": "+c.Name, got, now, schema)
			}
			if got.Reason == "" && c.Reason == "" && !spellings.allow(l.name, c.Name) {
				checkSame(t, l.name+": "+c.Name, got, c, now)
				same++
			}
		}
	}
	if same < 100 {
		t.Errorf("%d events are the same in Go, want 100 or more", same)
	}
	verdicts.needed(t)
	reasons.needed(t)
	spellings.needed(t)
}

// checkWritten holds what an example would publish against the parser and the schema.
func checkWritten(t *testing.T, name string, got answer, now time.Time, schema *jsonschema.Schema) {
	t.Helper()
	if _, err := usage.Parse(usage.Message{Subject: got.Subject, Body: got.Body}, now); err != nil {
		t.Errorf("%s: the worker would bury what it publishes: %v", name, err)
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.Body))
	if err == nil {
		err = schema.Validate(body)
	}
	if err != nil {
		t.Errorf("%s: the schema refuses what it publishes: %v", name, err)
	}
}

// checkSame compares with what the publisher for Go sends for the same event.
func checkSame(t *testing.T, name string, got answer, c usagetest.Case, now time.Time) {
	t.Helper()
	event, err := usage.Parse(usage.Message{Subject: c.Subject, Body: c.Body, StoredAt: now}, now)
	if err != nil {
		t.Fatal(err)
	}
	var sent capture
	if _, err := usage.NewPublisher(&sent).Publish(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if got.Subject != sent.message.Subject || !bytes.Equal(got.Body, sent.message.Data) || got.ID != sent.message.Header.Get("Nats-Msg-Id") {
		t.Errorf("%s: publishes\n%s %s %s, Go\n%s %s %s", name,
			got.Subject, got.ID, got.Body, sent.message.Subject, sent.message.Header.Get("Nats-Msg-Id"), sent.message.Data)
	}
}

// capture keeps the message that is published.
type capture struct {
	jetstream.JetStream
	message *nats.Msg
}

// Conn is none: nobody hears of a denial.
func (*capture) Conn() *nats.Conn { return nil }

func (c *capture) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	c.message = m
	return &jetstream.PubAck{Stream: "USAGE", Sequence: 1}, nil
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(usage.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mem:///event.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("mem:///event.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// Tokens of subjects, the odd ones by hand and two thousand at random.
func TestExamplesEscapeAsGoDoes(t *testing.T) {
	texts := []string{
		"", "api_calls", "A-Z_09", "cus_x.y", "ümläut *>", "=", "=2E", "a=b", " ", "\t\r\n", "\x00\x1f\x7f", "é", "日本", "😀", "%2E", "../", "usage.events.>",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]rune, random.IntN(12))
		for i := range text {
			text[i] = rune(random.IntN([]int{0x80, 0x800, 0xd800}[random.IntN(3)]))
		}
		texts = append(texts, string(text))
	}
	questions := make([]question, len(texts))
	for i := range texts {
		questions[i].Token = &texts[i]
	}
	for _, l := range languages() {
		for i, got := range l.ask(t, questions) {
			if want := usage.EncodeToken(texts[i]); got.Token != want {
				t.Errorf("%s: %q is written %q, want %q", l.name, texts[i], got.Token, want)
			}
		}
	}
}

// All of the Python example compiles, also what no test runs.
func TestPythonCompiles(t *testing.T) {
	needs(t, "python3", "python3")
	files, err := filepath.Glob(filepath.Join(copied, "examples", "python", "*.py"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%q %v, want three files", files, err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-m", "py_compile"}, files...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
