package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Action is what was done. The list is closed: see [Actions].
type Action string

// The actions.
const (
	Replay         Action = "replay"
	Edit           Action = "edit"
	Discard        Action = "discard"
	Import         Action = "import"
	Pause          Action = "pause"
	Resume         Action = "resume"
	AcceptRestored Action = "accept-restored"
)

// Actions returns the closed list.
func Actions() []Action {
	return []Action{Replay, Edit, Discard, Import, Pause, Resume, AcceptRestored}
}

// Valid reports whether a is on the closed list.
func (a Action) Valid() bool { return slices.Contains(Actions(), a) }

// Stage tells the two records of a mutation apart.
type Stage string

// The stages.
const (
	Intent Stage = "intent" // about to be done
	Result Stage = "result" // what came of it
)

// PartSize is how many letters one record names at most: with every text cut at
// mostText, less than half of a message of 1 MiB.
const PartSize = 100

// Bounds of one text and of a command line, in bytes of JSON.
const (
	mostText    = 600
	mostCommand = 8 << 10
)

// Who is the person, as far as anything knows them.
type Who struct {
	Actor    string `json:"actor"`     // as they call themselves; else the user
	User     string `json:"user"`      // of the operating system, user@host
	NATSUser string `json:"nats_user"` // "" where the credentials do not say
}

// Letter is one dead letter in a record. What is not known is left out.
type Letter struct {
	ID        uint64 `json:"id,omitempty"` // sequence in USAGE_DLQ
	Reason    string `json:"reason,omitempty"`
	Code      string `json:"code,omitempty"`
	EventName string `json:"event_name,omitempty"`
	Customer  string `json:"customer,omitempty"`
	Value     string `json:"value,omitempty"`
	Sequence  uint64 `json:"sequence,omitempty"`    // of the message that died
	Before    string `json:"identifier,omitempty"`  // the letter's
	After     string `json:"billed_as,omitempty"`   // the identifier of what is published
	Body      string `json:"body_sha256,omitempty"` // of the body that is stored with the letter
	NewBody   string `json:"new_body_sha256,omitempty"`
	Outcome   string `json:"outcome,omitempty"`   // of a result
	Published uint64 `json:"published,omitempty"` // of a result: sequence of what was published
	Detail    string `json:"detail,omitempty"`    // of a result
}

// Digest is the hash by which a record names a body: SHA-256 in hexadecimal.
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Record is one entry of the audit trail.
type Record struct {
	Run     string            `json:"run"`  // the same for all records of one command
	Part    int               `json:"part"` // counted from 1
	Stage   Stage             `json:"stage"`
	Action  Action            `json:"action"`
	At      time.Time         `json:"at"` // by the clock of whoever did it
	Who     Who               `json:"who"`
	Why     string            `json:"why,omitempty"`
	Command []string          `json:"command,omitempty"` // arguments, without what may be secret
	Total   int               `json:"total,omitempty"`   // how many the whole command is about
	Counts  map[string]int    `json:"counts,omitempty"`  // of a result, by outcome
	Letters []Letter          `json:"letters,omitempty"`
	Changes map[string]Change `json:"changes,omitempty"` // of an edit, by field
	Note    string            `json:"note,omitempty"`    // what else is to be known

	// StoredAt and Sequence are the stream's; they are not part of what is stored.
	StoredAt time.Time `json:"-"`
	Sequence uint64    `json:"-"`
}

// Change is one field of an edited event; "" where it was or is not there.
type Change struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// subject is where the record is stored.
func (r Record) subject() string { return "usage.audit." + string(r.Action) }

// messageID lets JetStream recognise the record when it is stored again.
func (r Record) messageID() string { return fmt.Sprintf("audit-%s-%d-%s", r.Run, r.Part, r.Stage) }

// encode bounds every text: what a producer wrote must not make a record unstorable.
func (r Record) encode() ([]byte, error) {
	if !r.Action.Valid() {
		return nil, fmt.Errorf("audit: %q is no action", r.Action)
	}
	if len(r.Letters) > PartSize {
		return nil, fmt.Errorf("audit: %d letters in one record, at most %d", len(r.Letters), PartSize)
	}
	letters := make([]Letter, len(r.Letters))
	for i, l := range r.Letters {
		for _, text := range []*string{&l.Reason, &l.Code, &l.EventName, &l.Customer, &l.Value, &l.Before, &l.After, &l.Outcome, &l.Detail} {
			*text = cut(*text, mostText)
		}
		letters[i] = l
	}
	r.Letters = letters
	r.Why, r.Note = cut(r.Why, mostCommand), cut(r.Note, mostCommand)
	r.Command = bounded(r.Command)
	r.Changes = shortened(r.Changes)
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("audit: encode: %w", err)
	}
	return data, nil
}

// bounded cuts a command line; ids by the thousand stand among the letters anyway.
func bounded(command []string) []string {
	var kept []string
	room := mostCommand
	for i, argument := range command {
		argument = cut(argument, mostText)
		if room -= len(argument); room < 0 {
			return append(kept, fmt.Sprintf("… and %d more", len(command)-i))
		}
		kept = append(kept, argument)
	}
	return kept
}

// mostChanges bounds the fields of one edit; the hashes of the bodies hold the rest.
const mostChanges = 200

func shortened(changes map[string]Change) map[string]Change {
	kept := make(map[string]Change, len(changes))
	for field, c := range changes {
		if len(kept) == mostChanges {
			break
		}
		kept[cut(field, mostText)] = Change{cut(c.From, mostText), cut(c.To, mostText)}
	}
	return kept
}

// cut bounds a text by its length as JSON: what a producer wrote may be made of characters
// that take six bytes each.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for i, r := range text {
		if most -= lengthAsJSON(r); most < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

func lengthAsJSON(r rune) int {
	switch {
	case r < ' ', r == '\u2028', r == '\u2029', strings.ContainsRune("<>&\x7f", r):
		return len(`\u0000`)
	case r == '"', r == '\\':
		return len(`\"`)
	default:
		return utf8.RuneLen(r)
	}
}
