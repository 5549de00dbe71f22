package console

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Status is the document of `meterworker status -o json`, as far as the page shows it.
type Status struct {
	At         string   `json:"at"`
	Verdict    string   `json:"verdict"`
	Why        []string `json:"why"`
	Mode       string   `json:"mode"`
	Partitions int      `json:"partitions"`
	Backlog    struct {
		Pending       int     `json:"pending"`
		Ready         int     `json:"ready"`
		InHand        int     `json:"in_hand"`
		InBackOff     int     `json:"in_back_off"`
		OldestAt      string  `json:"oldest_at"`
		OldestSeconds float64 `json:"oldest_seconds"`
	} `json:"backlog"`
	Flow *struct {
		Published  float64  `json:"published"`
		Settled    float64  `json:"settled"`
		EtaSeconds *float64 `json:"eta_seconds"`
	} `json:"flow"`
	Rate struct {
		Configured  float64 `json:"configured"`
		InForce     float64 `json:"in_force"`
		Used        float64 `json:"used"`
		PausedUntil string  `json:"paused_until"`
	} `json:"rate"`
	Workers     []Worker `json:"workers"`
	Unowned     []int    `json:"unowned"`
	DeadLetters struct {
		Total    int            `json:"total"`
		ByReason map[string]int `json:"by_reason"`
	} `json:"dead_letters"`
	Orders struct {
		Paused bool   `json:"paused"`
		By     string `json:"by"`
		Why    string `json:"why"`
		At     string `json:"at"`
	} `json:"orders"`
	ToDeclare []string `json:"to_declare"`
	Streams   []struct {
		Name     string `json:"name"`
		Messages uint64 `json:"messages"`
		Bytes    uint64 `json:"bytes"`
		MaxBytes int64  `json:"max_bytes"`
	} `json:"streams"`
}

// Worker is one worker of the fleet.
type Worker struct {
	Name           string  `json:"name"`
	State          string  `json:"state"`
	Reason         string  `json:"reason"`
	Partitions     []int   `json:"partitions"`
	Rate           float64 `json:"rate"`
	Held           int     `json:"held"`
	LedgerBytes    int64   `json:"ledger_bytes"`
	LedgerMaxBytes int64   `json:"ledger_max_bytes"`
}

// remedies say what to do about each verdict.
var remedies = map[string]string{
	"idle":       "Nothing waits. Usage that is published is delivered.",
	"delivering": "Nothing to do.",
	"stalled":    "Run meterworker doctor, and look at the workers' logs.",
	"waiting":    "Stripe does not answer as it should. The workers try again by themselves.",
	"paused":     "Resume when the reason is gone. Usage waits in the outbox.",
	"unowned":    "Start more workers, or look at the logs of those that run.",
	"halted":     "Mend what the reason names: a new key, a meter, a declaration. Then resume.",
	"no_workers": "Start meterworker run. Usage waits in the outbox.",
	"unknown":    "Find out why NATS cannot be read; usage that is stored is safe.",
}

// Remedy is what to do now.
func (s *Status) Remedy() string { return remedies[s.Verdict] }

// Healthy tells whether usage is delivered, or would be if there were any.
func (s *Status) Healthy() bool { return s.Verdict == "idle" || s.Verdict == "delivering" }

// ReasonRow is one reason of the overview, with where its letters are.
type ReasonRow struct {
	Name string
	N    int
	Link string
}

// ReasonRows are the dead letters by reason, the most frequent first.
func (s *Status) ReasonRows() []ReasonRow {
	var rows []ReasonRow
	for name, n := range s.DeadLetters.ByReason {
		rows = append(rows, ReasonRow{name, n, "/dead-letters?" + url.Values{"reason": {name}}.Encode()})
	}
	slices.SortFunc(rows, func(a, b ReasonRow) int { return cmp.Or(b.N-a.N, strings.Compare(a.Name, b.Name)) })
	return rows
}

// Owned is one partition and who owns it; "" is nobody.
type Owned struct {
	Partition int
	Owner     string
}

// Owners are all partitions in order.
func (s *Status) Owners() []Owned {
	const most = 256 // METERWORKER_PARTITIONS
	all := make([]Owned, min(max(s.Partitions, 0), most))
	for i := range all {
		all[i].Partition = i
	}
	for _, w := range s.Workers {
		for _, p := range w.Partitions {
			if p >= 0 && p < len(all) {
				all[p].Owner = w.Name
			}
		}
	}
	return all
}

type overviewView struct {
	Status  *Status
	Problem string
}

func (p *Pages) overview(w http.ResponseWriter, r *http.Request, v visitor) {
	var view overviewView
	status := http.StatusOK
	var s Status
	if look := p.hub.status(r.Context(), r.Form.Get("fresh") != ""); look == nil || json.Unmarshal(look, &s) != nil {
		view.Problem, status = notSeen, http.StatusServiceUnavailable
	} else {
		view.Status = &s
	}
	p.show(w, r, v, status, "overview", page{Title: "Overview", Nav: "overview", Data: view})
}

// pause and resume answer with the overview, by a fresh look.
func (p *Pages) pause(w http.ResponseWriter, r *http.Request, v visitor) {
	why := strings.TrimSpace(r.PostForm.Get("why"))
	if why == "" {
		p.fail(w, r, v, http.StatusBadRequest, "say why: every worker shows it, and the audit trail keeps it")
		return
	}
	p.ordered(w, r, v, p.operator.Pause(r.Context(), v.who, why))
}

func (p *Pages) resume(w http.ResponseWriter, r *http.Request, v visitor) {
	p.ordered(w, r, v, p.operator.Resume(r.Context(), v.who, strings.TrimSpace(r.PostForm.Get("why"))))
}

func (p *Pages) ordered(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	if err != nil {
		p.failed(w, r, v, err)
		return
	}
	p.remember(w, r, v)
	p.hub.soon()
	http.Redirect(w, r, "/?fresh=1", http.StatusSeeOther)
}

// remember keeps the name of a person who needs no login.
func (p *Pages) remember(w http.ResponseWriter, r *http.Request, v visitor) {
	if p.access.Token == nil && v.who.Name != "" {
		setCookie(w, r, nameCookie, url.QueryEscape(v.who.Name), sessionLife)
	}
}
