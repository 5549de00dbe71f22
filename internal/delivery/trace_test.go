package delivery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// followed notes what a tracer is told, by message.
type followed struct {
	mu   sync.Mutex
	told map[uint64][]string
}

func (f *followed) Receive(m Message, partition int) Trace {
	t := &steps{f, m.Sequence()}
	t.note(fmt.Sprint("receive ", partition))
	return t
}

type steps struct {
	f        *followed
	sequence uint64
}

func (t *steps) note(step string) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	t.f.told[t.sequence] = append(t.f.told[t.sequence], step)
}

func (t *steps) Attempt()   { t.note("attempt") }
func (t *steps) Permitted() { t.note("permitted") }
func (t *steps) Settling()  { t.note("settling") }

func (t *steps) Attempted(a Answer, refused string) {
	t.note(strings.TrimSpace(fmt.Sprint("attempted ", a.Class, " ", refused)))
}

func (t *steps) Settled(d Disposition, reason deadletter.Reason, err error) {
	t.note(strings.TrimSpace(fmt.Sprint("settled ", d, " ", reason)))
	if err != nil {
		t.note(err.Error())
	}
}

// Every way out of a worker's hands ends the trace, once, and nothing comes after it.
func TestTraceOfEveryWay(t *testing.T) {
	const tried = "receive 0, attempt, permitted, attempted "
	tests := []struct {
		name   string
		script []reply
		body   string // "" for an event
		faults map[string]fault
		want   []string // of its first life in this worker's hands, and of what follows
	}{
		{"delivered", nil, "", nil, []string{tried + "accepted, settling, settled delivered"}},
		{"again", []reply{failed, limited}, "", nil, []string{
			tried + "server_fault, attempt, permitted, attempted throttled, attempt, permitted, attempted accepted, settling, settled delivered",
		}},
		{"buried", []reply{refusedForGood}, "", nil, []string{tried + "refused, settling, settled dead rejected"}},
		{"no event", nil, "<html>", nil, []string{"receive 0, settling, settled dead undecodable"}},
		{"a panic", []reply{{panics: "after"}}, "", nil, []string{"receive 0, attempt, permitted, settling, settled dead panic"}},
		{"the ack fails", nil, "", map[string]fault{"ack": {}}, []string{
			tried + "accepted, settling, settled delivered, planned fault", "receive 0, settled delivered",
		}},
		{"the record fails", nil, "", map[string]fault{"record delivered": {}}, []string{tried + "accepted, settling, settled released"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &followed{told: map[uint64][]string{}}
				w := newWorld(t)
				w.tracer = f
				w.stripe.script["a"] = tt.script
				maps.Copy(w.faults, tt.faults)
				text := body("a", 7)
				if tt.body != "" {
					text = []byte(tt.body)
				}
				once(t, w, w.outbox.publish(subject("cus_1"), text, nil))
				var got []string
				for step := range strings.SplitSeq(strings.Join(f.told[1], ", "), "receive") {
					if step != "" {
						got = append(got, "receive"+strings.TrimSuffix(step, ", "))
					}
				}
				if len(got) > len(tt.want) {
					got = got[:len(tt.want)]
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("told\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			})
		})
	}
}

// A refusal that a trace tells has a name, and no other.
func TestRefusalsHaveNames(t *testing.T) {
	want := map[refusal]string{
		notRefused: "", refusedStopped: "stopped", refusedAmbiguous: "ambiguous", refusedStale: "stale", refusedOutdated: "outdated",
	}
	for r, name := range want {
		check(t, "name", r.String(), name)
	}
	check(t, "a refusal without a row", refusal(len(want)).String(), "")
}

// The letter keeps a well-formed traceparent, whether anybody traces or not.
func TestLetterKeepsTheTraceparent(t *testing.T) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for given, want := range map[string]string{valid: valid, "00-0-0-01": "", valid + "\r\nNats-Rollup: all": "", "": ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.stripe.script["a"] = []reply{refusedForGood}
			once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), map[string]string{
				"traceparent": given, "tracestate": "a=b", "baggage": "c=d", "Nats-Rollup": "all",
			}))
			letters := w.letters.all()
			need(t, "dead letters", len(letters), 1)
			check(t, "traceparent", letters[0].Traceparent, want)
			for name := range letters[0].head {
				if name != deadletter.HeaderTraceparent && !strings.HasPrefix(name, "Meterworker-") {
					t.Errorf("%s was copied", name)
				}
			}
		})
	}
}

// untracedWay is all that a delivery with a retry calls where nobody traces.
func untracedWay(tracer Tracer, m Message) {
	trace := tracer.Receive(m, 7)
	for range 2 {
		trace.Attempt()
		trace.Permitted()
		trace.Attempted(Answer{Class: ServerFault, Status: 503}, notRefused.String())
	}
	trace.Settling()
	trace.Settled(Delivered, "", nil)
}

func TestUntracedAllocatesNothing(t *testing.T) {
	w := NewWorker(Config{}, Parts{})
	m := &inHand{}
	if n := testing.AllocsPerRun(1000, func() { untracedWay(w.tracer, m) }); n != 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}

func BenchmarkUntraced(b *testing.B) {
	w := NewWorker(Config{}, Parts{})
	m := &inHand{}
	b.ReportAllocs()
	for b.Loop() {
		untracedWay(w.tracer, m)
	}
}
