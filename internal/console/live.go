package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// frameTimeout bounds the writing of one event: a reader that takes nothing is let go, and
// holds nobody else up meanwhile.
const frameTimeout = 10 * time.Second

// events streams each look and each sample, until the page closes, the login or the worker
// ends. A reader that is slow gets the newest, not all.
func (p *Pages) events(w http.ResponseWriter, r *http.Request, v visitor) {
	leave, ok := p.hub.watch()
	if !ok {
		w.Header().Set("Retry-After", "5")
		p.fail(w, r, v, http.StatusServiceUnavailable, "too many pages are open; close some")
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	p.hub.soon()
	for {
		look, sample, news := p.hub.latest()
		_ = control.SetWriteDeadline(time.Now().Add(frameTimeout)) // a server that cannot has one of its own
		if !v.still() || frame(w, "status", look) != nil || frame(w, "sample", sample) != nil || control.Flush() != nil {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		case <-p.hub.closed:
			return
		}
	}
}

// frame writes one event; without anything to say it is a comment, which keeps the line open.
func frame(w http.ResponseWriter, event string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if string(data) == "null" {
		_, err = fmt.Fprint(w, ":\n\n")
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
	return err
}

func (p *Pages) series(w http.ResponseWriter, _ *http.Request, _ visitor) {
	p.answer(w, http.StatusOK, p.hub.series())
}

func (p *Pages) apiStatus(w http.ResponseWriter, r *http.Request, v visitor) {
	look := p.hub.status(r.Context(), false)
	if look == nil {
		p.fail(w, r, v, http.StatusServiceUnavailable, notSeen)
		return
	}
	p.answer(w, http.StatusOK, look)
}

const notSeen = "NATS does not answer, so nothing is known of the fleet; see /readyz and the worker's log"
