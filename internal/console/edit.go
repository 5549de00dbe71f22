package console

import (
	"context"
	"net/http"
	"strings"
)

type editView struct {
	Case              *Case
	Problem           string
	Fields            []editRow
	NewName, NewValue string
	Body              string // for the text field
	Raw               bool   // the whole body is what is edited
	Accepted          bool
}

// editRow is one field of the form.
type editRow struct {
	EditField
	Key string // in the form
}

// fieldKey is the prefix of the form's fields that are fields of the event, so that a
// producer's names are none of ours.
const fieldKey = "field."

func newEditView(c *Case) editView {
	view := editView{Case: c, Body: c.Editable, Raw: len(c.Fields) == 0}
	for _, field := range c.Fields {
		view.Fields = append(view.Fields, editRow{field, fieldKey + field.Name})
	}
	return view
}

func (p *Pages) editPage(w http.ResponseWriter, r *http.Request, v visitor) {
	found := p.caseOf(w, r, v)
	if found == nil {
		return
	}
	view := newEditView(found)
	status := http.StatusOK
	if !found.MayEdit {
		view.Problem, status = "It cannot be edited: "+found.Refusal, http.StatusConflict
	}
	p.showEdit(w, r, v, status, view)
}

func (p *Pages) showEdit(w http.ResponseWriter, r *http.Request, v visitor, status int, view editView) {
	p.show(w, r, v, status, "edit", page{Title: "Edit dead letter " + decimal(view.Case.ID), Nav: "dead-letters", Data: view})
}

// edit shows what would be published; confirmed, it publishes that.
func (p *Pages) edit(w http.ResponseWriter, r *http.Request, v visitor) {
	found := p.caseOf(w, r, v)
	if found == nil {
		return
	}
	view := newEditView(found)
	change := view.read(r)
	var revision *Revision
	err := p.reading(w, r, func(ctx context.Context) (err error) {
		revision, err = p.operator.Revise(ctx, found.ID, change)
		return err
	})
	switch {
	case err != nil:
		p.failed(w, r, v, err)
	case revision.Refusal != "" && wantsJSON(r):
		p.fail(w, r, v, http.StatusUnprocessableEntity, revision.Refusal)
	case revision.Refusal != "":
		view.Problem = revision.Refusal
		p.showEdit(w, r, v, http.StatusUnprocessableEntity, view)
	case r.PostForm.Get("confirm") == "true":
		deed, _ := deedOf(Revise, r, v)
		deed.IDs, deed.Edit = []uint64{found.ID}, &change
		p.begin(w, r, v, deed)
	default:
		p.show(w, r, v, http.StatusOK, "revision", page{Title: "Publish the edited event?", Nav: "dead-letters", Data: struct {
			*Revision
			Accepted bool
		}{revision, change.Accepted}})
	}
}

// read takes the edit from the form, and keeps what was typed for another try.
func (view *editView) read(r *http.Request) Edit {
	form := r.PostForm
	e := Edit{Digest: form.Get("digest"), Accepted: form.Get("accept_double_billing") == "true"}
	view.Accepted = e.Accepted
	if form.Get("with") != "fields" {
		view.Raw, view.Body, e.Body = true, form.Get("body"), form.Get("body")
		return e
	}
	for i, row := range view.Fields {
		if !form.Has(row.Key) {
			continue
		}
		after := strings.ReplaceAll(form.Get(row.Key), "\r\n", "\n") // browsers send the breaks of a text field so
		view.Fields[i].Value = after
		switch after {
		case row.Value:
		case "":
			e.Unset = append(e.Unset, row.Name)
		default:
			e.Set = append(e.Set, Field{row.Name, after})
		}
	}
	view.NewName, view.NewValue = strings.TrimSpace(form.Get("new_name")), form.Get("new_value")
	if view.NewName != "" {
		e.Set = append(e.Set, Field{"payload." + strings.TrimPrefix(view.NewName, "payload."), view.NewValue})
	}
	return e
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }
