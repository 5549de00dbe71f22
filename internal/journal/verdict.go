package journal

import "time"

// Verdict is the ledger's answer for one message. The list is closed.
type Verdict uint8

// The verdicts.
const (
	Fresh           Verdict = iota + 1 // nothing is known, or only attempts of unknown outcome: see Known.Unknown
	WasDelivered                       // this very sequence was delivered: ack
	WasBuried                          // this very sequence has its dead letter: ack
	IsDying                            // this very sequence's dead letter may be stored: publish Known.Letter again
	DeliveredBefore                    // another sequence with the same content was delivered
	OtherContent                       // another sequence with other content was delivered
	Forgotten                          // nothing is known, but the event is older than what is still remembered
)

var verdictNames = map[Verdict]string{
	Fresh: "fresh", WasDelivered: "delivered", WasBuried: "dead", IsDying: "dying",
	DeliveredBefore: "duplicate", OtherContent: "conflict", Forgotten: "forgotten",
}

func (v Verdict) String() string { return verdictNames[v] }

// Verdicts returns the closed list as label values.
func Verdicts() []string {
	names := make([]string, 0, len(verdictNames))
	for v := Fresh; v <= Forgotten; v++ {
		names = append(names, v.String())
	}
	return names
}

// Known is what the ledger says about one message.
type Known struct {
	Verdict Verdict
	By      uint64 // DeliveredBefore, OtherContent: the sequence that was delivered
	Letter  []byte // IsDying: the letter's header block
	DyingAt Moment // IsDying: when the letter was announced

	// Attempts of unknown outcome for this identifier, of any sequence.
	Unknown      bool
	Oldest       Moment // the oldest of those that are not forgiven
	SameContent  bool   // one of them had this message's fingerprint
	OtherContent bool   // one of them had another fingerprint
	OtherAlive   Moment // the newest one with another fingerprint whose message is not buried; zero: none
	Own          Moment // the oldest one of this very sequence, in an earlier life; zero: none
}

// Question is what is asked of the ledger.
type Question struct {
	Sequence    uint64
	Key         uint64
	Body        uint64 // hash of the body: guards what is known of the sequence alone
	Fingerprint uint32
	EventTime   time.Time // the event's own timestamp
	Forgive     time.Time // attempts of earlier sequences from before this server time do not count; zero: all count
}
