package permissions

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// post sends a form to the console, and returns where the answer leads.
func (p *worker) post(path string, form url.Values) (status int, location, body string) {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+p.admin+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	if err := response.Write(&text); err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Location"), text.String()
}

// A console with the worker's user shows the fleet; what it may not do, it says at once, with
// the permission and the remedy, and the worker is none the less ready.
func TestDeniedConsole(t *testing.T) {
	w := provisioned(t, 1)
	p := w.start()
	w.until("readiness", p.ready)
	w.until("the console to see an idle fleet", func() bool {
		_, body := p.get("/api/status")
		return strings.Contains(body, `"verdict":"idle"`)
	})
	const remedy = "give it the operator's permissions (deploy/nats/permissions.conf), or give the console a user of its own: METERWORKER_ADMIN_NATS_CREDS"
	status, body := p.get("/api/dead-letters")
	if status != http.StatusBadGateway {
		t.Errorf("dead letters: %d", status)
	}
	var problem struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &problem); err != nil || !strings.Contains(problem.Error, "$JS.API.CONSUMER.CREATE.USAGE_DLQ") || !strings.Contains(problem.Error, remedy) {
		t.Errorf("dead letters: %s", body)
	}
	if status, _, body := p.post("/pause", url.Values{"why": {"x"}}); status != http.StatusBadGateway || !strings.Contains(body, `usage.audit.pause`) {
		t.Errorf("pause: %d, %s", status, body)
	}
	if !p.ready() || strings.Contains(p.log.String(), "NATS denies what the worker needs") {
		t.Error("what the console may not do is taken for the worker's trouble")
	}
}

// With an operator's user of its own the console does what the commands do, beside a worker
// that may do none of it.
func TestConsoleOfAnOperator(t *testing.T) {
	w := provisioned(t, 1)
	p := w.start("METERWORKER_ADMIN_NATS_URL="+w.nats.url("operator"), "METERWORKER_ADMIN_NATS_INBOX_PREFIX="+inbox("operator"))
	w.until("readiness", p.ready)
	status, location, body := p.post("/dead-letters/1/replay", url.Values{"why": {"mended"}})
	run, found := strings.CutPrefix(location, "/runs/")
	if status != http.StatusSeeOther || !found {
		t.Fatalf("replay: %d, %s", status, body)
	}
	w.until("the replay to be delivered", func() bool {
		_, body := p.get("/api/runs/" + run)
		return strings.Contains(body, `"outcome":"delivered"`)
	})
	if n := w.letters(); n != 0 {
		t.Errorf("%d letters", n)
	}
	for _, path := range []string{"/", "/dead-letters", "/audit", "/api/status"} {
		if status, body := p.get(path); status != 200 || strings.Contains(body, "may not") {
			t.Errorf("%s: %d, %s", path, status, body)
		}
	}
	for _, path := range []string{"/pause", "/resume"} {
		if status, _, body := p.post(path, url.Values{"why": {"x"}}); status != http.StatusSeeOther {
			t.Errorf("%s: %d, %s", path, status, body)
		}
	}
	if output := w.must("operator", "audit", "-o", "json"); !strings.Contains(output, `"actor":"console","user":"console@127.0.0.1","nats_user":"operator"`) {
		t.Errorf("records: %s", output)
	}
}
