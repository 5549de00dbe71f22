package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

type auditFields struct{ Action, Actor, Since string }

type auditView struct {
	Filter              auditFields
	Filtered            bool
	Actions             []string
	Problem             string
	Records             []Record
	FirstLink, NextLink string
}

func (f auditFields) address(before uint64) string {
	query := url.Values{}
	for _, field := range []Field{{"action", f.Action}, {"actor", f.Actor}, {"since", f.Since}} {
		if field.Value != "" {
			query.Set(field.Name, field.Value)
		}
	}
	if before > 0 {
		query.Set("before", decimal(before))
	}
	if len(query) == 0 {
		return "/audit"
	}
	return "/audit?" + query.Encode()
}

// auditQuery reads the form; refusal is "" or what is wrong with it.
func (p *Pages) auditQuery(r *http.Request) (f auditFields, q AuditQuery, refusal string) {
	f = auditFields{r.Form.Get("action"), r.Form.Get("actor"), r.Form.Get("since")}
	before, ok := number(r.Form.Get("before"))
	switch {
	case !ok:
		refusal = "before is no number of a record"
	case !known(p.operator.Actions(), f.Action):
		refusal = "there is no such action"
	}
	return f, AuditQuery{f.Action, f.Actor, f.Since, before}, refusal
}

func (p *Pages) audit(w http.ResponseWriter, r *http.Request, v visitor) {
	filter, query, refusal := p.auditQuery(r)
	view := auditView{Filter: filter, Filtered: filter != auditFields{}, Actions: p.operator.Actions(), Problem: refusal}
	status := http.StatusBadRequest
	if refusal == "" {
		status = http.StatusOK
		if query.Before > 0 {
			view.FirstLink = filter.address(0)
		}
		if err := p.reading(w, r, func(ctx context.Context) error { return p.fillAudit(ctx, &view, query) }); err != nil {
			view.Problem, status = err.Error(), http.StatusBadGateway
		}
	}
	p.show(w, r, v, status, "audit", page{Title: "Audit trail", Nav: "audit", Data: view})
}

// fillAudit reads one page of records.
func (p *Pages) fillAudit(ctx context.Context, view *auditView, q AuditQuery) error {
	err := p.operator.Audit(ctx, q, func(record Record) error {
		if len(view.Records) == pageLength {
			view.NextLink = view.Filter.address(view.Records[pageLength-1].Sequence)
			return errEnough
		}
		view.Records = append(view.Records, record)
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// apiAudit writes the records that match, newest first, a line each.
func (p *Pages) apiAudit(w http.ResponseWriter, r *http.Request, v visitor) {
	_, query, refusal := p.auditQuery(r)
	if refusal != "" {
		p.fail(w, r, v, http.StatusBadRequest, refusal)
		return
	}
	p.lines(w, r, v, func(ctx context.Context, line func(any) error) error {
		return p.operator.Audit(ctx, query, func(record Record) error { return line(record.Document) })
	})
}
