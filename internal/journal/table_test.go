package journal

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// rows is a table in plain words: of each key the rows that it has.
type rows map[uint64][]row

func (m rows) put(key uint64, r row, several bool) {
	kept := slices.DeleteFunc(m[key], func(other row) bool { return !several || other.value == r.value })
	m[key] = append(kept, r)
}

func (m rows) drop(day uint8) (dropped int) {
	for key := range m {
		before := len(m[key])
		m[key] = slices.DeleteFunc(m[key], func(r row) bool { return r.day == day })
		dropped += before - len(m[key])
	}
	maps.DeleteFunc(m, func(_ uint64, kept []row) bool { return len(kept) == 0 })
	return dropped
}

func (m rows) count() (n int) {
	for _, kept := range m {
		n += len(kept)
	}
	return n
}

// whole checks what holds after every step.
func whole(t *rapid.T, table *table) {
	n, held := 0, int64(0)
	for i, slots := range table.segments {
		n, held = n+len(slots)/slotSize, held+int64(cap(slots))
		for at := 0; at < len(slots); at += slotSize {
			h := hashAt(slots, at)
			if got := table.segment(h); got != i {
				t.Fatalf("hash %x is in segment %d, and looked for in %d of %d", h, i, got, len(table.segments))
			}
			if at > 0 && hashAt(slots, at-slotSize) > h {
				t.Fatalf("segment %d is not sorted", i)
			}
		}
	}
	if n != table.count || held != table.held {
		t.Fatalf("%d rows, %d bytes; counted are %d and %d", n, held, table.count, table.held)
	}
}

// The table holds what a map would, whatever is put and dropped, in runs long enough for
// segments to be split and joined.
func TestTableAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		several := rapid.Bool().Draw(t, "several values a key")
		table, want := newTable(several), rows{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			day := rapid.Uint8Range(0, 3).Draw(t, "day")
			if rapid.IntRange(0, 3).Draw(t, "drop") == 0 {
				if n, m := table.drop(day), want.drop(day); n != m {
					t.Fatalf("day %d: %d rows dropped, want %d", day, n, m)
				}
			} else {
				first, n := rapid.Uint64Range(0, 1000).Draw(t, "first key"), rapid.Uint64Range(1, 600).Draw(t, "keys")
				r := row{value: rapid.Uint64Range(0, 2).Draw(t, "value"), extra: rapid.Uint32().Draw(t, "extra"), day: day}
				for key := first; key < first+n; key++ {
					table.put(key, r)
					want.put(key, r, several)
				}
			}
			whole(t, &table)
		}
		if table.count != want.count() {
			t.Errorf("%d rows, want %d", table.count, want.count())
		}
		compareTable(t, &table, want)
	})
}

func compareTable(t *rapid.T, table *table, want rows) {
	for key := range uint64(1700) {
		got, found := table.get(key)
		if found != (len(want[key]) > 0) || found && !slices.Contains(want[key], got) {
			t.Fatalf("key %d: %+v, %t; want one of %+v", key, got, found, want[key])
		}
		for value := range uint64(3) {
			kept := slices.ContainsFunc(want[key], func(r row) bool { return r.value == value })
			if has := table.has(key, value); table.several && has != kept || !table.several && has != found {
				t.Fatalf("key %d, value %d: has %t, kept %t", key, value, has, kept)
			}
		}
	}
}

// Keys that somebody has looked for, so that they lie together, lie apart under a seed.
func TestKeysThatLieTogether(t *testing.T) {
	for name, key := range map[string]func(uint64) uint64{
		"alike in the low bits":  func(i uint64) uint64 { return i << 40 },
		"alike in the high bits": func(i uint64) uint64 { return 0xfeedface<<32 | i },
		"without a seed's hash":  func(i uint64) uint64 { return i * 0xf1de83e19937733d }, // undoes the first step
	} {
		table, longest := newTable(false), 0
		for i := range uint64(100_000) {
			table.put(key(i), row{})
		}
		for _, slots := range table.segments {
			longest = max(longest, len(slots)/slotSize)
		}
		if longest > 4*mostRows {
			t.Errorf("%s: %d rows in one segment, on average there are %d", name, longest, mostRows)
		}
	}
}

// Full, after it has grown row by row, and after most was dropped again, a table takes no
// more than this. What 10 million take is a benchmark.
func TestBytesOfATable(t *testing.T) {
	const days, most = 18, 28.0
	table := newTable(false)
	for i := range uint64(days * 10_000) {
		table.put(spread(i), row{value: i, day: uint8(i % days)})
		if n := float64(table.size()) / float64(table.count); n > most && table.count > 2000 {
			t.Fatalf("%.1f bytes a row at %d rows", n, table.count)
		}
	}
	for day := range uint8(days) {
		if n := table.drop(day); n != 10_000 {
			t.Fatalf("%d rows dropped", n)
		}
		if n := float64(table.size()) / float64(table.count); n > most {
			t.Errorf("%.1f bytes a row at %d rows, of %d", n, table.count, days*10_000)
		}
	}
	if table.count != 0 || table.held != 0 {
		t.Errorf("%d rows and %d bytes are left of nothing", table.count, table.held)
	}
}
