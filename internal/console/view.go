package console

import (
	"context"
	"encoding/json"
	"errors"
)

// Operator is what a person can see and do, however it is reached. Its errors are shown to
// the person: they say what is wrong and what to do about it.
type Operator interface {
	// Look is one look at the whole fleet, compared with the one before: the document of
	// `meterworker status -o json`, with the verdict "unknown" where there is nothing to
	// see. One call at a time.
	Look(ctx context.Context) json.RawMessage
	// Rest ends a series of looks: nobody watches.
	Rest()

	// Resolve checks a query, and fixes its times: "2h" means another one later.
	Resolve(q Query) (Query, error)
	// Letters visits the dead letters that match, oldest first.
	Letters(ctx context.Context, q Query, visit func(Letter) error) error
	// Groups counts those that match by reason and code; the largest group comes first.
	Groups(ctx context.Context, q Query) ([]Group, error)
	// Case is everything that is known of one letter; the error wraps [ErrNotFound] where
	// there is none.
	Case(ctx context.Context, id uint64) (*Case, error)
	// Foresee says what a deed would do to the letters that match, and does nothing.
	Foresee(ctx context.Context, d Deed) (*Forecast, error)
	// Revise says what an edit would publish, and does nothing.
	Revise(ctx context.Context, id uint64, e Edit) (*Revision, error)
	// Do carries a deed out, letter by letter; report hears of each. It stops after the
	// letter in hand when ctx ends; then it follows for a while what becomes of what it
	// published.
	Do(ctx context.Context, d Deed, report func(Step)) error
	// Pause tells the fleet to stop fetching; Resume lets it go on.
	Pause(ctx context.Context, who Who, why string) error
	Resume(ctx context.Context, who Who, why string) error

	// Audit visits the records that match, newest first, before that number (0: all).
	Audit(ctx context.Context, q AuditQuery, visit func(Record) error) error

	// Reasons and Actions are the closed lists of why letters die, and of what people do.
	Reasons() []string
	Actions() []string
}

// ErrNotFound says that there is no such letter.
var ErrNotFound = errors.New("not found (replayed or discarded already?)")

// Who is the person at the page.
type Who struct {
	Name   string // as they call themselves; "" if they do not
	Remote string // address that they come from
}

// Query selects dead letters; what is zero selects all.
type Query struct {
	Reasons   []string
	Code      string
	EventName string
	Customer  string
	Episode   string
	Text      string // anywhere in identifier, customer, event name or detail, whatever its case
	Since     string // RFC 3339, or how long ago
	Until     string
	From      uint64 // the first letter to look at
	Through   uint64 // the last one; 0: the last there is
	Limit     int    // 0: none
}

// Letter is one dead letter, with the fields of `meterworker dlq list -o json`.
type Letter struct {
	ID           uint64 `json:"id"`
	Reason       string `json:"reason"`
	Code         string `json:"code"`
	Status       int    `json:"status"`
	Detail       string `json:"detail"`
	Identifier   string `json:"identifier"`
	EventName    string `json:"event_name"`
	Customer     string `json:"customer"`
	Value        string `json:"value"`
	Attempts     int    `json:"attempts"`
	FirstAttempt string `json:"first_attempt"`
	LastAttempt  string `json:"last_attempt"`
	DeadAt       string `json:"dead_at"`
	StoredAt     string `json:"stored_at"`
	Subject      string `json:"subject"`
	Sequence     uint64 `json:"sequence"`
	RequestID    string `json:"request_id"`
	Replays      int    `json:"replays"`
	ExpiresAt    string `json:"expires_at"`
}

// Group is the letters of one reason and code, with the fields of
// `meterworker dlq list --groups -o json`.
type Group struct {
	Reason     string   `json:"reason"`
	Code       string   `json:"code"`
	Count      int      `json:"count"`
	Oldest     string   `json:"oldest"`
	EventNames []string `json:"event_names"`
	MoreNames  bool     `json:"more_event_names"`
}

// Case is the case file of one letter.
type Case struct {
	Letter
	Document json.RawMessage // of `meterworker dlq show -o json`

	Body       string // readable: JSON indented, other text as it is, else a hex dump
	Bytes      int    // of the body
	Editable   string // the body as a text field takes it; "" where it is no text
	Digest     string // of the body, to tell it again
	Headers    []Field
	Fields     []EditField
	Unreadable string // what is wrong with its headers

	Counted    bool   // Stripe may have counted it
	AttemptsAs string // in words
	TimeLeft   string // until Stripe takes it no more, in words
	SafeWindow string // in words; "" where nothing can have been counted
	Advice     string
	Commands   []string // for a terminal

	MayReplay bool   // as it stands
	Refusal   string // why not
	NeedsRisk bool   // a replay needs the acceptance that the customer may be billed twice
	Hopeless  string // what is likely to come of a replay; "" if nothing is
	MayEdit   bool
	EditRisk  bool   // an edit needs that acceptance
	BilledAs  string // by an edit, where the identifier stays
	// NewIdentifier tells that an edit gets one of its own.
	NewIdentifier bool

	Lineage    []Ancestor
	History    []Record // what people did about it, newest first
	HistoryCut bool     // older records were not looked at
}

// Field is a name with a value.
type Field struct{ Name, Value string }

// EditField is one field of an event that may be corrected.
type EditField struct {
	Name  string // event_name, timestamp or payload.<key>
	Value string
	Long  bool // a text of several lines, or of more than a line
}

// Ancestor is one message that came before a letter.
type Ancestor struct {
	StoredAt   string
	Sequence   uint64
	ReplayOf   uint64 // 0: a producer published it
	Identifier string
	Edited     bool
}

// Edit is what a person corrected: fields, or the whole body.
type Edit struct {
	Set      []Field // those that are other than before, or new
	Unset    []string
	Body     string // the whole body; "" where fields are given
	Digest   string // of the body that the person saw
	Accepted bool   // that the customer may be billed twice
}

// Revision is what an edit would publish.
type Revision struct {
	Letter   Letter
	Changes  []Change
	BilledAs string
	Dated    string
	Subject  string
	Warning  string
	Body     string // to be published
	Digest   string // of the letter's body
	Refusal  string // why it may not be; "" if it may
}

// Change is one field, before and after; "" where it is not there.
type Change struct{ Field, From, To string }

// Kind is what is done to letters. The list is closed.
type Kind string

// The kinds.
const (
	Replay  Kind = "replay"
	Revise  Kind = "edit"
	Discard Kind = "discard"
)

// Deed is something to be done to letters: those with the ids, or those of the query.
type Deed struct {
	Kind     Kind
	Who      Who
	Why      string
	Accepted bool // that customers may be billed twice
	Hopeless bool // also what will die again as it stands; implied by an id
	IDs      []uint64
	Query    Query
	Edit     *Edit // of a [Revise]
	Rate     int   // letters a second at most
	Asked    []string
}

// Forecast is what a deed would do.
type Forecast struct {
	Count    int
	Last     uint64 // the newest letter that was counted
	ByReason []Count
	Possible int
	Refused  []Count // by why
}

// Count is how many there are of something.
type Count struct {
	Name string `json:"name"`
	N    int    `json:"count"`
}

// Step is one thing that a deed did, or found out.
type Step struct {
	Selected int  // how many letters the deed is about, once that is known
	Acted    bool // all is done; what comes now are follow-ups

	ID       uint64 // 0: no letter
	Outcome  string // replayed, discarded, refused, failed, not_found; or of a follow-up delivered, died_again, waiting
	Text     string // in words
	FollowUp bool   // what became of a replay
	Letter   uint64 // died_again: the new dead letter
}

// AuditQuery selects records of the audit trail.
type AuditQuery struct {
	Action string // "": any
	Actor  string
	Since  string // RFC 3339, or how long ago
	Before uint64 // 0: all
}

// Record is one record of the audit trail.
type Record struct {
	Document json.RawMessage // of `meterworker audit -o json`

	Sequence uint64
	At       string
	Action   string
	Stage    string
	Run      string
	Actor    string
	User     string
	What     string
	Why      string
	Letters  []RecordLetter
	Changes  []Change
}

// RecordLetter is a letter that a record names.
type RecordLetter struct {
	ID   uint64
	Text string
}
