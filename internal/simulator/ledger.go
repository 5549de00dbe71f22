package simulator

import (
	"slices"
	"sync"
	"time"
)

// ledger is what was counted: a record for each identifier, and units by
// customer, meter and minute. Identifiers are found again inside memory; past it
// they are counted once more, and the record shows it.
type ledger struct {
	mu      sync.Mutex
	scope   Scope
	memory  int64 // nanoseconds
	pairs   map[pairKey]uint32
	usage   []usage // by pair
	index   map[identifierKey]uint32
	records []record // in order of arrival
}

type identifierKey struct {
	scope      uint32 // the pair that stands for the identifier's scope
	identifier string
}

// record is one identifier of one pair: 48 bytes and the identifier.
type record struct {
	identifier string
	units      int64
	at         int64 // Unix nanoseconds: received last, accepted or refused later
	content    uint64
	pair       uint32
	times      uint16 // counted; above 1 is a double bill
	refused    uint16 // refused after the 200
}

// usage is what one customer used on one meter.
type usage struct {
	pair    pairKey
	minutes []minute // ascending
}

// minute sums the events whose timestamps lie in one minute.
type minute struct {
	start  int64 // Unix minutes
	units  int64
	events int64
	last   int64 // value of the newest timestamp
	lastAt int64 // Unix seconds
}

func newLedger(scope Scope, memory time.Duration) *ledger {
	return &ledger{
		scope: scope, memory: int64(memory),
		pairs: make(map[pairKey]uint32),
		index: make(map[identifierKey]uint32),
	}
}

// enter counts the event unless its identifier is known: within memory, a nanosecond
// less than its full length included. changed says that the known event had
// another content. refused is asked only of an event that is not known; one that is
// refused later uses its identifier up without units.
func (l *ledger) enter(e event, live bool, now time.Time, refused func() bool) (known, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pair := l.pairOf(pairKey{live, e.name, e.customer})
	key := identifierKey{l.scopeOf(live, e, pair), e.identifier}
	at, content := now.UnixNano(), e.fingerprint()
	position, found := l.index[key]
	if found {
		changed = l.records[position].content != content
		if at-l.records[position].at < l.memory {
			return true, changed
		}
	}
	if !found || l.records[position].pair != pair {
		position = uint32(len(l.records))
		l.records = append(l.records, record{identifier: e.identifier, pair: pair})
		l.index[key] = position
	}
	late := refused()
	l.records[position].add(e, at, content, late)
	if !late {
		l.usage[pair].add(e)
	}
	return false, changed
}

func (r *record) add(e event, at int64, content uint64, refused bool) {
	r.at, r.content = at, content
	if refused {
		r.refused++
		return
	}
	r.times++
	r.units += e.value
}

func (u *usage) add(e event) {
	start := floorDiv(e.timestamp, 60)
	i, found := u.search(start)
	if !found {
		u.minutes = slices.Insert(u.minutes, i, minute{start: start})
	}
	m := &u.minutes[i]
	m.units += e.value
	m.events++
	if m.events == 1 || e.timestamp >= m.lastAt {
		m.last, m.lastAt = e.value, e.timestamp
	}
}

func (u *usage) search(start int64) (int, bool) {
	return slices.BinarySearchFunc(u.minutes, start, func(m minute, start int64) int {
		return int(m.start - start)
	})
}

func floorDiv(n, d int64) int64 {
	if n < 0 {
		return (n - d + 1) / d
	}
	return n / d
}

// pairOf numbers the pairs, so that a record holds four bytes for it.
func (l *ledger) pairOf(pair pairKey) uint32 {
	number, known := l.pairs[pair]
	if !known {
		number = uint32(len(l.usage))
		l.pairs[pair] = number
		l.usage = append(l.usage, usage{pair: pair})
	}
	return number
}

func (l *ledger) scopeOf(live bool, e event, pair uint32) uint32 {
	switch l.scope {
	case ScopeAccount:
		return l.pairOf(pairKey{live: live})
	case ScopeMeter:
		return l.pairOf(pairKey{live: live, eventName: e.name})
	case ScopeCustomer:
	}
	return pair
}

// counted lists the records in order of arrival.
func (l *ledger) counted() []Counted {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Counted, len(l.records))
	for i, r := range l.records {
		pair := l.usage[r.pair].pair
		list[i] = Counted{
			Event: Event{pair.live, pair.eventName, pair.customer, r.identifier},
			Times: int(r.times), RefusedLater: int(r.refused), Units: r.units,
			LastAt: time.Unix(0, r.at).UTC(),
		}
	}
	return list
}

// hours sums the minutes by hour of the events' timestamps, ordered by pair and
// time.
func (l *ledger) hours() []Hour {
	l.mu.Lock()
	defer l.mu.Unlock()
	hours := []Hour{}
	for _, u := range l.usage {
		hours = append(hours, u.hours()...)
	}
	slices.SortStableFunc(hours, compareHours)
	return hours
}

func (u *usage) hours() []Hour {
	var hours []Hour
	for _, m := range u.minutes {
		start := time.Unix(floorDiv(m.start, 60)*3600, 0).UTC()
		if n := len(hours); n == 0 || !hours[n-1].Start.Equal(start) {
			hours = append(hours, Hour{
				Livemode: u.pair.live, EventName: u.pair.eventName, Customer: u.pair.customer, Start: start,
			})
		}
		hours[len(hours)-1].Units += m.units
		hours[len(hours)-1].Events += int(m.events)
	}
	return hours
}

// within are the minutes of one pair from start up to end, in Unix minutes.
func (l *ledger) within(pair pairKey, start, end int64) []minute {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, known := l.pairs[pair]
	if !known {
		return nil
	}
	u := &l.usage[number]
	from, _ := u.search(start)
	to, _ := u.search(end)
	return slices.Clone(u.minutes[from:max(from, to)])
}
