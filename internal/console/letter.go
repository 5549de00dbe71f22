package console

import (
	"context"
	"net/http"
)

// caseOf reads the letter that the address names; without one it has answered.
func (p *Pages) caseOf(w http.ResponseWriter, r *http.Request, v visitor) *Case {
	id, ok := number(r.PathValue("id"))
	if !ok || id == 0 {
		p.fail(w, r, v, http.StatusNotFound, "ids of dead letters are the numbers from 1 up that the list shows")
		return nil
	}
	var found *Case
	err := p.reading(w, r, func(ctx context.Context) (err error) {
		found, err = p.operator.Case(ctx, id)
		return err
	})
	if err != nil {
		p.failed(w, r, v, err)
		return nil
	}
	return found
}

func (p *Pages) letter(w http.ResponseWriter, r *http.Request, v visitor) {
	if found := p.caseOf(w, r, v); found != nil {
		p.show(w, r, v, http.StatusOK, "letter", page{Title: "Dead letter " + decimal(found.ID), Nav: "dead-letters", Data: found})
	}
}

func (p *Pages) apiLetter(w http.ResponseWriter, r *http.Request, v visitor) {
	if found := p.caseOf(w, r, v); found != nil {
		p.answer(w, http.StatusOK, found.Document)
	}
}

// one does something to one letter. It waits until that is done, or says on the page of the
// run how far it is.
func (p *Pages) one(kind Kind) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		id, ok := number(r.PathValue("id"))
		if !ok || id == 0 {
			p.fail(w, r, v, http.StatusNotFound, "ids of dead letters are the numbers from 1 up that the list shows")
			return
		}
		deed, refusal := deedOf(kind, r, v)
		if refusal != "" {
			p.fail(w, r, v, http.StatusBadRequest, refusal)
			return
		}
		deed.IDs, deed.Hopeless = []uint64{id}, true
		p.begin(w, r, v, deed)
	}
}

// deedOf reads what every deed has from the form.
func deedOf(kind Kind, r *http.Request, v visitor) (d Deed, refusal string) {
	d = Deed{
		Kind: kind, Who: v.who, Why: r.PostForm.Get("why"), Accepted: r.PostForm.Get("accept_double_billing") == "true",
		Asked: []string{"console", r.Method, r.URL.RequestURI()},
	}
	if d.Accepted {
		d.Asked = append(d.Asked, "accept_double_billing")
	}
	if kind == Discard && blank(d.Why) {
		return d, "say why their usage need not be billed: the audit trail keeps it"
	}
	return d, ""
}

// begin starts a run, and sends the person to its page.
func (p *Pages) begin(w http.ResponseWriter, r *http.Request, v visitor, d Deed) {
	run, err := p.runs.begin(d)
	if err != nil {
		p.failed(w, r, v, err)
		return
	}
	if len(d.IDs) > 0 {
		run.await(r.Context())
	}
	p.remember(w, r, v)
	http.Redirect(w, r, "/runs/"+run.id, http.StatusSeeOther)
}
