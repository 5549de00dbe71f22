package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

const (
	// pageLength is how many letters or records a page shows.
	pageLength = 50
	// readTimeLimit bounds the reading of letters for one page: a hundred thousand with
	// their bodies take some ten seconds.
	readTimeLimit = time.Minute
	// writeGrace is left for what was read to be written.
	writeGrace = 10 * time.Second
)

var (
	errEnough   = errors.New("the page is full")
	errTooSlow  = errors.New("reading took over a minute; narrow the search")
	errReadBusy = errors.New("others are reading dead letters now; try again in a moment")
)

// reading does something that may take longer than other answers, not too many at once.
func (p *Pages) reading(w http.ResponseWriter, r *http.Request, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(r.Context(), readTimeLimit, errTooSlow)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTimeLimit + writeGrace)) // a server that cannot has one of its own
	select {
	case p.reads <- struct{}{}:
		defer func() { <-p.reads }()
	case <-ctx.Done():
		return errReadBusy
	}
	err := read(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		return errTooSlow
	}
	return err
}

type lettersView struct {
	Filter                  filterFields
	Filtered                bool
	Reasons                 []string
	Problem                 string
	Total                   int
	Groups                  []groupRow
	Entries                 []Letter
	ReplayLink, DiscardLink string
	FirstLink, NextLink     string
}

// groupRow is a group with where its letters are.
type groupRow struct {
	Group
	Link string
}

func (p *Pages) letters(w http.ResponseWriter, r *http.Request, v visitor) {
	filter := filterOf(r.Form)
	view := lettersView{
		Filter: filter, Filtered: len(filter.pairs()) > 0, Reasons: p.operator.Reasons(),
		ReplayLink: filter.address("/dead-letters/replay"), DiscardLink: filter.address("/dead-letters/discard"),
	}
	status := http.StatusOK
	after, ok := number(r.Form.Get("after"))
	query, err := p.operator.Resolve(filter.query())
	switch {
	case !ok:
		view.Problem, status = "after is no id of a dead letter", http.StatusBadRequest
	case err != nil:
		view.Problem, status = err.Error(), http.StatusBadRequest
	default:
		err = p.reading(w, r, func(ctx context.Context) error { return p.fillLetters(ctx, &view, query, after) })
		if err != nil {
			view.Problem, status = err.Error(), http.StatusBadGateway
		}
	}
	p.show(w, r, v, status, "letters", page{Title: "Dead letters", Nav: "dead-letters", Data: view})
}

// fillLetters reads the groups and one page of letters.
func (p *Pages) fillLetters(ctx context.Context, view *lettersView, q Query, after uint64) error {
	groups, err := p.operator.Groups(ctx, q)
	if err != nil {
		return err
	}
	for _, g := range groups {
		filter := view.Filter
		filter.Reason, filter.Code = g.Reason, g.Code
		view.Total += g.Count
		view.Groups = append(view.Groups, groupRow{g, filter.address("/dead-letters")})
	}
	if after > 0 {
		view.FirstLink = view.Filter.address("/dead-letters")
	}
	q.From = after + 1
	q.Limit = pageLength + 1 // one more tells that there is a next page
	err = p.operator.Letters(ctx, q, func(l Letter) error {
		if len(view.Entries) == pageLength {
			view.NextLink = view.Filter.address("/dead-letters", Field{"after", decimal(view.Entries[pageLength-1].ID)})
			return errEnough
		}
		view.Entries = append(view.Entries, l)
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// apiLetters writes all that match, a line each, as they are read.
func (p *Pages) apiLetters(w http.ResponseWriter, r *http.Request, v visitor) {
	after, ok := number(r.Form.Get("after"))
	limit, limitOK := number(r.Form.Get("limit"))
	query, err := p.operator.Resolve(filterOf(r.Form).query())
	switch {
	case !ok || !limitOK:
		p.fail(w, r, v, http.StatusBadRequest, "after and limit are whole numbers")
		return
	case err != nil:
		p.fail(w, r, v, http.StatusBadRequest, err.Error())
		return
	}
	query.From, query.Limit = after+1, int(min(limit, 1<<30))
	p.lines(w, r, v, func(ctx context.Context, line func(any) error) error {
		return p.operator.Letters(ctx, query, func(l Letter) error { return line(l) })
	})
}

func (p *Pages) apiGroups(w http.ResponseWriter, r *http.Request, v visitor) {
	query, err := p.operator.Resolve(filterOf(r.Form).query())
	if err != nil {
		p.fail(w, r, v, http.StatusBadRequest, err.Error())
		return
	}
	p.lines(w, r, v, func(ctx context.Context, line func(any) error) error {
		groups, err := p.operator.Groups(ctx, query)
		for _, g := range groups {
			if err := line(g); err != nil {
				return err
			}
		}
		return err
	})
}

// lines answers with one JSON object a line. What breaks off after the first cuts the
// connection: an end that looks like one would hide the rest.
func (p *Pages) lines(w http.ResponseWriter, r *http.Request, v visitor, read func(ctx context.Context, line func(any) error) error) {
	begun := false
	begin := func() {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
		}
	}
	control, encoder := http.NewResponseController(w), json.NewEncoder(w)
	err := p.reading(w, r, func(ctx context.Context) error {
		return read(ctx, func(object any) error {
			begin()
			_ = control.SetWriteDeadline(time.Now().Add(frameTimeout)) // as in reading
			return encoder.Encode(object)
		})
	})
	switch {
	case err == nil:
		begin()
	case begun:
		panic(http.ErrAbortHandler)
	default:
		p.failed(w, r, v, err)
	}
}
