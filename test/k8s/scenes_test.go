package k8s

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

// scene is a state of the fleet as Prometheus has recorded it for ten minutes, and how
// many workers the scaler wants then.
type scene struct {
	name   string
	series string
	want   int64 // 0: no answer, which is a fault and not an empty outbox
}

// load is what one worker shows. Ready is what it could send now; what it has in hand or
// delayed is pending, and always plenty in a scene.
type load struct{ ready, permitsAMinute, rate, ledgerMiB int }

var scenes = []scene{
	{"nothing to do", two(load{0, 600, 1000, 10}), 2},
	{"backlog and room", two(load{9000, 6000, 1000, 10}), 4},
	{"backlog beyond all measure", two(load{900000, 6000, 1000, 10}), 6},
	{"small backlog", two(load{1000, 6000, 1000, 10}), 2},
	{"everything in back-off", two(load{0, 6000, 1000, 10}), 2},
	{"429s hold the rate down", two(load{0, 9000, 300, 10}), 2},
	{"429s hold the rate of three down", fleetOf("meterworker", 3, load{0, 6000, 300, 10}), 3},
	{"Stripe is down", fleetOf("meterworker", 3, load{0, 0, 1000, 10}), 2},
	{"at the limit", two(load{90000, 30000, 1000, 10}), 2},
	{"four at the limit stay four", fleetOf("meterworker", 4, load{90000, 15000, 1000, 10}), 4},
	{"another installation's backlog", two(load{0, 600, 1000, 10}) + fleetOf("meterworker-test", 1, load{90000, 0, 1000, 4000}), 2},
	{"the ledgers are full", two(load{0, 600, 1000, 1024}), 4},
	{"four quiet workers with half full ledgers", fleetOf("meterworker", 4, load{0, 600, 1000, 512}), 4},
	{"just started", strings.ReplaceAll(two(load{10000, 0, 1000, 10}), "permits_total", "permits_unseen"), 4},
	{"nobody is scraped", fleetOf("elsewhere", 2, load{9000, 0, 1000, 10}), 0},
}

func two(each load) string { return fleetOf("meterworker", 2, each) }

// fleetOf writes the series of n workers with the same load.
func fleetOf(namespace string, n int, each load) string {
	var text strings.Builder
	for i := range n {
		series := func(metric, values string) {
			fmt.Fprintf(&text, "\n meterworker_%s{namespace=%q,pod=\"%d\"} %sx10", metric, namespace, i, values)
		}
		series("outbox_ready", strconv.Itoa(each.ready))
		series("outbox_pending", strconv.Itoa(each.ready+50000))
		series("rate_limit", strconv.Itoa(each.rate))
		series("permits_total", "0+"+strconv.Itoa(each.permitsAMinute))
		series("ledger_bytes", strconv.Itoa(each.ledgerMiB<<20))
	}
	return text.String()
}

// wanted is what the autoscaler makes of the answers in a scene: for each trigger the sum
// brought to the threshold a worker, the largest of them, within the bounds.
func wanted(t *testing.T, s scaler, play scene) int64 {
	t.Helper()
	store := promqltest.LoadedStorage(t, "load 1m"+play.series)
	defer func() { _ = store.Close() }()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	workers := s.least
	for _, a := range s.asks {
		query, err := engine.NewInstantQuery(t.Context(), store, nil, a.query, time.Unix(600, 0))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := query.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatal(err)
		}
		if len(answer) != 1 {
			return 0
		}
		workers = max(workers, int64(math.Ceil(answer[0].F/a.threshold)))
	}
	return min(workers, s.most)
}

func TestScaler(t *testing.T) {
	s := scalerOf(custom(render(t, "production"), "ScaledObject")[0])
	for _, play := range scenes {
		t.Run(play.name, func(t *testing.T) {
			if got := wanted(t, s, play); got != play.want {
				t.Errorf("%d workers, want %d", got, play.want)
			}
		})
	}
}

// The scenes can fail: each of these queries is a plausible one, and wrong in a scene.
func TestScenesTellWrongQueries(t *testing.T) {
	right := scalerOf(custom(render(t, "production"), "ScaledObject")[0])
	outbox, ledger := right.asks[0].query, right.asks[1].query
	tests := []struct{ name, outbox, ledger, scene string }{
		{"messages in back-off count", strings.ReplaceAll(outbox, "outbox_ready", "outbox_pending"), ledger, "everything in back-off"},
		{"the rate in force does not count", `sum(meterworker_outbox_ready{namespace="meterworker"})`, ledger, "at the limit"},
		{"the limit scales in", strings.Split(outbox, "+ on()")[0], ledger, "four at the limit stay four"},
		{"the rate is taken for each worker's", strings.ReplaceAll(outbox, "max(", "sum("), ledger, "at the limit"},
		{"other installations count", strings.ReplaceAll(outbox, `{namespace="meterworker"}`, ""), ledger, "another installation's backlog"},
		{"other installations' ledgers count", outbox, "sum(meterworker_ledger_bytes)", "another installation's backlog"},
		{"no permits yet is no answer", strings.ReplaceAll(outbox, "or vector(0)", ""), ledger, "just started"},
		{"no workers are an empty outbox", outbox + " or vector(0)", ledger + " or vector(0)", "nobody is scraped"},
		{"one ledger stands for all", outbox, strings.Replace(ledger, "sum", "max", 1), "four quiet workers with half full ledgers"},
		{"the ledger does not count", outbox, "vector(0)", "the ledgers are full"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := slices.IndexFunc(scenes, func(s scene) bool { return s.name == tt.scene })
			wrong := right
			wrong.asks = slices.Clone(right.asks)
			wrong.asks[0].query, wrong.asks[1].query = tt.outbox, tt.ledger
			if got := wanted(t, wrong, scenes[i]); got == scenes[i].want {
				t.Errorf("%d workers with the wrong query, too", got)
			}
		})
	}
}

// The query holds the number of workers by the threshold times their number.
func TestScalerHoldsByItsThreshold(t *testing.T) {
	a := scalerOf(custom(render(t, "production"), "ScaledObject")[0]).asks[0]
	if term := strconv.FormatFloat(a.threshold, 'f', -1, 64) + " * count("; !strings.Contains(a.query, term) {
		t.Errorf("the query has no %q", term)
	}
}
