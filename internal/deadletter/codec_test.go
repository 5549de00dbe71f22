package deadletter

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// drawLetter draws a letter whose texts fit into headers as they are.
func drawLetter(t *rapid.T) Letter {
	text := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) && r != utf8.RuneError }), 0, 16, 64)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "known") {
			return time.Unix(rapid.Int64Range(0, 253_402_300_799).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		}
		return time.Time{}
	})
	count := rapid.IntRange(0, 1<<31)
	return Letter{
		Reason: rapid.SampledFrom(Reasons()).Draw(t, "reason"), Outcome: rapid.SampledFrom([]Outcome{Refused, Unknown}).Draw(t, "outcome"),
		Detail: text.Draw(t, "detail"), Code: text.Draw(t, "code"), Status: count.Draw(t, "status"), RequestID: text.Draw(t, "request id"),
		Attempts: count.Draw(t, "attempts"), FirstAttempt: moment.Draw(t, "first"), LastAttempt: moment.Draw(t, "last"), DeadAt: moment.Draw(t, "dead at"),
		Subject: text.Draw(t, "subject"), Sequence: rapid.Uint64().Draw(t, "sequence"), StoredAt: moment.Draw(t, "stored at"),
		Identifier: text.Draw(t, "identifier"), Timestamp: rapid.Int64().Draw(t, "timestamp"), Episode: text.Draw(t, "episode"), Replays: count.Draw(t, "replays"),
	}
}

// A letter is announced in the journal as a block, published as headers, and read
// again by the next owner or by a person: it stays what it was on every way.
func TestLettersComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLetter(t)
		block, err := Pack(l.Header())
		if err != nil {
			t.Fatal(err)
		}
		header, err := Unpack(block)
		if err != nil || !maps.Equal(header, l.Header()) {
			t.Fatalf("%v, %v; want %v", header, err, l.Header())
		}
		got, err := Read(getter(header))
		if err != nil || got != l {
			t.Fatalf("%+v, %v; want %+v", got, err, l)
		}
		if again, err := Pack(header); err != nil || string(again) != string(block) {
			t.Fatalf("packed again: %q, %v; want %q", again, err, block)
		}
	})
}

// Any text makes headers that a message can carry, and a subject that the stream takes.
func FuzzHeader(f *testing.F) {
	for _, text := range []string{"", "plain", "a\r\nNats-Rollup: all", "\x1b[2J", "\u202e", "\xff", "\u0085", strings.Repeat("é", 5000), "usage.events.a.b", "usage.events.>.*", " padded "} {
		f.Add(text, int64(1_760_612_775), 400)
	}
	f.Fuzz(func(t *testing.T, text string, seconds int64, number int) {
		l := Letter{
			Reason: Rejected, Outcome: Unknown, Detail: text, Code: text, Status: number, RequestID: text, Attempts: number, Subject: text,
			Sequence: uint64(seconds), Identifier: text, Timestamp: seconds, Episode: text, Replays: number, DeadAt: time.Unix(seconds%253_402_300_800, 0),
		}
		header := l.Header()
		for name, value := range header {
			if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) || len(value) > 4096 {
				t.Errorf("%s: %q", name, value)
			}
		}
		block, err := Pack(header)
		if err != nil || !json.Valid(block) {
			t.Fatalf("%q, %v", block, err)
		}
		unpacked, err := Unpack(block)
		if err != nil || !maps.Equal(unpacked, header) {
			t.Fatalf("%v, %v; want %v", unpacked, err, header)
		}
		got, err := Read(getter(header))
		if l.DeadAt.UTC().Year() >= 0 && err != nil { // an RFC 3339 year has four digits
			t.Fatalf("%v: %v", header, err)
		}
		if got.Sequence != l.Sequence || got.Timestamp != l.Timestamp || got.Status != number || got.Attempts != number || got.Replays != number {
			t.Errorf("%+v, want %+v", got, l)
		}
		if !maps.Equal(got.Header(), header) && err == nil {
			t.Errorf("headers again: %v, want %v", got.Header(), header)
		}
	})
}

// FuzzRead: any text in place of each header is read as what Header would write, or
// refused by the header's name.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"", "0", "-1", "1e3", "18446744073709551616", "9223372036854775808", "0x1", "+1", " 1", "now", "2025-10-16T12:00:00Z", "10000-01-01T00:00:00Z", "rejected"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name := range full().Header() {
			header := full().Header()
			header[name] = text
			l, err := Read(getter(header))
			if err != nil {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%s: %q is refused without its name: %v", name, text, err)
				}
				continue
			}
			back, err := Read(getter(l.Header()))
			if err != nil || !maps.Equal(back.Header(), l.Header()) {
				t.Errorf("%s: %q is read as %+v, and that again as %+v, %v", name, text, l, back, err)
			}
		}
	})
}
