package console

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// runView is a run at one moment, for the page and for programs.
type runView struct {
	ID         string     `json:"id"`
	Kind       Kind       `json:"kind"`
	State      string     `json:"state"`
	Began      string     `json:"began"`
	Selected   int        `json:"selected"`
	Done       int        `json:"done"`
	Counts     []Count    `json:"counts"` // by outcome
	Steps      []stepView `json:"letters"`
	Cut        bool       `json:"more_letters"`
	Problem    string     `json:"problem"`
	Unfinished bool       `json:"unfinished"`
	Heading    string     `json:"-"`
	Stoppable  bool       `json:"-"`
}

type stepView struct {
	ID      uint64 `json:"id"`
	Outcome string `json:"outcome"`
	Text    string `json:"detail"`
	Letter  uint64 `json:"letter"` // the new dead letter; 0: none
}

func (r *run) view() runView {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := runView{
		ID: r.id, Kind: r.deed.Kind, State: r.state, Began: r.began.UTC().Format(time.RFC3339Nano), Selected: r.selected, Done: r.done,
		Counts: []Count{}, Steps: []stepView{}, Cut: r.cut, Problem: r.problem,
		Unfinished: r.state == stateRunning || r.state == stateFollowing, Stoppable: r.state == stateRunning && r.bulk(), Heading: r.heading(),
	}
	for outcome, n := range r.counts {
		v.Counts = append(v.Counts, Count{outcome, n})
	}
	slices.SortFunc(v.Counts, func(a, b Count) int { return slices.Index(outcomes, a.Name) - slices.Index(outcomes, b.Name) })
	for _, s := range r.steps {
		v.Steps = append(v.Steps, stepView{s.ID, s.Outcome, s.Text, s.Letter})
	}
	return v
}

// outcomes in the order in which a letter comes to them.
var outcomes = []string{"replayed", "discarded", "refused", "failed", "not_found", "delivered", "died_again", "waiting"}

func (r *run) heading() string {
	verb := map[Kind]string{Replay: "Replay", Revise: "Edit", Discard: "Discard"}[r.deed.Kind]
	if !r.bulk() {
		return fmt.Sprintf("%s of dead letter %d", verb, r.deed.IDs[0])
	}
	return verb + " of many dead letters"
}

func (p *Pages) runOf(w http.ResponseWriter, r *http.Request, v visitor) *run {
	found := p.runs.find(r.PathValue("id"))
	if found == nil {
		p.fail(w, r, v, http.StatusNotFound, "this worker does not know that run any more: it remembers its last 20, until it is restarted; the audit trail has them all")
	}
	return found
}

func (p *Pages) run(w http.ResponseWriter, r *http.Request, v visitor) {
	if found := p.runOf(w, r, v); found != nil {
		view := found.view()
		p.show(w, r, v, http.StatusOK, "run", page{Title: view.Heading, Nav: "dead-letters", Data: view})
	}
}

func (p *Pages) apiRun(w http.ResponseWriter, r *http.Request, v visitor) {
	if found := p.runOf(w, r, v); found != nil {
		p.answer(w, http.StatusOK, found.view())
	}
}

// stop ends a run after the letter in hand.
func (p *Pages) stop(w http.ResponseWriter, r *http.Request, v visitor) {
	if found := p.runOf(w, r, v); found != nil {
		found.stop()
		found.await(r.Context())
		http.Redirect(w, r, "/runs/"+found.id, http.StatusSeeOther)
	}
}
