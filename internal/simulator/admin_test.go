package simulator

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

func (b *bench) admin(method, path, body string, target any) int {
	b.t.Helper()
	r := b.request(method, adminPrefix+path, "application/json", body)
	r.Header.Del("Authorization")
	got := b.do(r)
	if target != nil {
		if err := json.Unmarshal([]byte(got.body), target); err != nil {
			b.t.Fatalf("%s %s: %s: %v", method, path, got.body, err)
		}
	}
	return got.status
}

func TestAdminSteersTheSimulator(t *testing.T) {
	b := newBench(t, Config{})
	var armed []ArmedFault
	if status := b.admin("POST", "faults", `[{"kind":"error_503","times":1},{"kind":"rejected_later","identifier":"late"}]`, &armed); status != 200 || len(armed) != 2 {
		t.Fatalf("faults: %d %+v", status, armed)
	}
	b.want(b.send("id-1"), 503, "")
	b.want(b.send("id-1"), 200, "")
	b.want(b.send("late"), 200, "")
	if b.admin("GET", "faults", "", &armed); len(armed) != 1 || armed[0].Kind != RejectedLater || armed[0].Played != 1 {
		t.Errorf("faults %+v", armed)
	}
	if status := b.admin("DELETE", "faults", "", &armed); status != 200 || len(armed) != 0 || len(b.Faults()) != 0 {
		t.Errorf("delete: %d %+v", status, armed)
	}
	if status := b.admin("POST", "faults", `{"kind":"cut"}`, &armed); status != 200 || len(armed) != 1 {
		t.Errorf("one fault: %d %+v", status, armed)
	}
	b.ClearFaults()

	var clock struct{ Now time.Time }
	if b.admin("POST", "clock", `{"advance":"24h"}`, &clock); !clock.Now.Equal(start.Add(24 * time.Hour)) {
		t.Errorf("clock %v", clock.Now)
	}
	if b.admin("GET", "clock", "", &clock); !clock.Now.Equal(b.Now()) {
		t.Errorf("clock %v", clock.Now)
	}
	b.want(b.send("id-1"), 200, "") // forgotten by now

	var reports []ErrorReport
	if b.admin("GET", "reports", "", &reports); len(reports) != 1 {
		t.Errorf("reports %+v", reports)
	}
	var requests []Request
	if b.admin("GET", "requests", "", &requests); len(requests) != 4 || requests[0].Fault != Error503 || requests[0].Identifier != "id-1" || requests[0].Customer != "cus_1" {
		t.Errorf("requests %+v", requests)
	}
	var totals Totals
	if b.admin("GET", "totals", "", &totals); totals.Requests != 4 || totals.ByStatus[503] != 1 || totals.Faults[Error503] != 1 {
		t.Errorf("totals %+v", totals)
	}
	var books Books
	if b.admin("GET", "books", "", &books); len(books.Events) != 2 || books.Events[0].Times != 2 || len(books.Hours) != 2 || books.Requests != 4 {
		t.Errorf("books %+v", books)
	}
	var report Report
	if b.admin("POST", "check", `{"id-1":1,"lost":3}`, &report); len(report.Doubled) != 1 || len(report.Lost) != 1 || report.Lost[0].Identifier != "lost" {
		t.Errorf("report %+v", report)
	}
}

func TestAdminTurnsKeys(t *testing.T) {
	b := newBench(t, Config{})
	if status := b.admin("POST", "keys", `{"revoke":"sk_test_abc"}`, nil); status != 200 {
		t.Errorf("revoke: %d", status)
	}
	b.want(b.send("id-1"), 401, "api_key_expired")
	if status := b.admin("POST", "keys", `{"set":["sk_test_abc"]}`, nil); status != 200 {
		t.Errorf("set: %d", status)
	}
	b.want(b.send("id-1"), 200, "")
}

func TestAdminRefusesASlip(t *testing.T) {
	b := newBench(t, Config{})
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "faults", `{"kind":"nothing"}`, 400},
		{"POST", "faults", `{"kind":"cut","time":1}`, 400},
		{"POST", "faults", `[{"kind":"cut"},{"kind":"cut","time":1}]`, 400},
		{"POST", "faults", ``, 400},
		{"POST", "faults", `{"kind":"cut"} {}`, 400},
		{"POST", "clock", `{"advance":"-1h"}`, 400},
		{"POST", "clock", `{"advance":"1"}`, 400},
		{"POST", "clock", `{}`, 400},
		{"POST", "keys", `{}`, 400},
		{"POST", "check", `[]`, 400},
		{"PUT", "faults", `{}`, 405},
		{"GET", "nowhere", ``, 404},
	} {
		if got := b.admin(tt.method, tt.path, tt.body, nil); got != tt.status {
			t.Errorf("%s %s %s: %d, want %d", tt.method, tt.path, tt.body, got, tt.status)
		}
	}
	if len(b.Faults()) != 0 || !b.Now().Equal(start) {
		t.Errorf("a slip left faults %v, clock %v", b.Faults(), b.Now())
	}
}

// TestAdminIsNotStripe: control calls are neither limited nor counted.
func TestAdminIsNotStripe(t *testing.T) {
	b := newBench(t, Config{Rate: 1, Burst: 1})
	for range 3 {
		if status := b.admin(http.MethodGet, "totals", "", nil); status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if got := b.Totals(); got.Requests != 0 || got.PeakPerSecond != 0 {
		t.Errorf("totals %+v", got)
	}
}
