package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawMoment draws a time as the journal keeps it, at millisecond precision.
func drawMoment(t *rapid.T, label string) time.Time {
	return time.UnixMilli(rapid.Int64().Draw(t, label))
}

func drawEntry(t *rapid.T) Entry {
	e := Entry{
		Sequence:    rapid.Uint64().Draw(t, "sequence"),
		Key:         rapid.Uint64().Draw(t, "key"),
		Fingerprint: rapid.Uint32().Draw(t, "fingerprint"),
		State:       State(rapid.IntRange(int(Open), int(Dead)).Draw(t, "state")),
	}
	switch e.State {
	case Unknown:
		e.T0 = drawMoment(t, "t0")
	case Dying:
		e.Letter = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "letter")
	case Open, NotSent, Delivered, Dead:
	}
	return e
}

func drawMessage(t *rapid.T) message {
	return message{
		ordinal: rapid.Uint64Min(1).Draw(t, "ordinal"),
		wall:    drawMoment(t, "wall"),
		entries: rapid.SliceOfN(rapid.Custom(drawEntry), 0, 20).Draw(t, "entries"),
	}
}

func TestPackedMessagesComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		data := pack(m)
		got, err := unpack(data)
		if err != nil {
			t.Fatal(err)
		}
		if got.ordinal != m.ordinal || !got.wall.Equal(m.wall) || !sameEntries(got.entries, m.entries) {
			t.Fatalf("got %+v, want %+v", got, m)
		}
		size := 0
		for _, e := range m.entries {
			size += e.size()
		}
		if len(data) > size+32 {
			t.Fatalf("%d bytes, more than the bound of %d", len(data), size+32)
		}
	})
}

func sameEntries(a, b []Entry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].T0.Equal(b[i].T0) {
			return false
		}
		x, y := a[i], b[i]
		x.T0, y.T0 = time.Time{}, time.Time{}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// A prefix that could be read would be a lost intent, and so a double bill.
func TestNoPartOfAMessageCanBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := pack(drawMessage(t))
		for n := range data {
			if m, err := unpack(data[:n]); !errors.Is(err, ErrFormat) {
				t.Fatalf("the first %d of %d bytes were read as %+v (%v)", n, len(data), m, err)
			}
		}
		if m, err := unpack(append(data, 0)); !errors.Is(err, ErrFormat) {
			t.Fatalf("with a byte more it was read as %+v (%v)", m, err)
		}
	})
}

func TestWhatIsNotOursIsNotRead(t *testing.T) {
	good := pack(message{ordinal: 1, wall: time.UnixMilli(1), entries: []Entry{{Sequence: 7, Key: 8, Fingerprint: 9, State: Open}}})
	with := func(i int, b byte) []byte {
		data := bytes.Clone(good)
		data[i] = b
		return data
	}
	huge := binary.AppendUvarint([]byte{formatVersion, 1, 2}, math.MaxUint64)
	letter := append([]byte{formatVersion, 1, 2, 1, byte(Dying), 2}, make([]byte, 12)...)
	tests := map[string][]byte{
		"nothing":               nil,
		"version 0":             with(0, 0),
		"a newer version":       with(0, formatVersion+1),
		"JSON":                  []byte(`{"version":1}`),
		"ordinal 0":             with(1, 0),
		"fewer entries":         with(3, 0),
		"more entries":          with(3, 2),
		"state 0":               with(4, 0),
		"a state of the future": with(4, byte(Dead)+1),
		"2^64-1 entries":        append(huge, make([]byte, 64)...),
		"an endless number":     append([]byte{formatVersion}, bytes.Repeat([]byte{0xff}, 40)...),
		"a letter without end":  binary.AppendUvarint(letter, math.MaxUint64),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := unpack(data)
			if !errors.Is(err, ErrFormat) || !reflect.DeepEqual(m, message{}) {
				t.Errorf("read as %+v, %v; want nothing and ErrFormat", m, err)
			}
		})
	}
	if _, err := unpack(good); err != nil {
		t.Errorf("the message that these derive from: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{formatVersion})
	f.Add(pack(message{ordinal: 1, wall: time.UnixMilli(1_760_612_775_000)}))
	f.Add(pack(message{ordinal: 300, wall: time.UnixMilli(-1), entries: []Entry{
		{Sequence: 9, Key: math.MaxUint64, Fingerprint: 1, State: Unknown, T0: time.UnixMilli(math.MinInt64)},
		{Sequence: 3, State: Dying, Letter: []byte("{}")},
		{Sequence: math.MaxUint64, State: Dead},
	}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := unpack(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) || m.entries != nil {
				t.Fatalf("refused with %v and %d entries", err, len(m.entries))
			}
			return
		}
		again, err := unpack(pack(m))
		if err != nil || again.ordinal != m.ordinal || !again.wall.Equal(m.wall) || !sameEntries(again.entries, m.entries) {
			t.Fatalf("read as %+v, and packed and read again as %+v, %v", m, again, err)
		}
		if len(m.entries)*minEntry > len(data) {
			t.Fatalf("%d entries out of %d bytes", len(m.entries), len(data))
		}
	})
}

func TestOnlyRecordsAreRecorded(t *testing.T) {
	for state := range State(20) {
		legal := state == NotSent || state == Delivered || state == Unknown || state == Dying || state == Dead
		if err := (Entry{Sequence: 1, State: state}).record(); (err == nil) != legal {
			t.Errorf("%s: %v", state, err)
		}
		if named := !strings.HasPrefix(state.String(), "state("); named != (legal || state == Open) {
			t.Errorf("state %d is called %q", uint8(state), state)
		}
	}
}
