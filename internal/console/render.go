package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
)

// page is what every template is given.
type page struct {
	Title    string
	Nav      string // of the pages in the menu; "" for none
	ReadOnly bool
	SignedIn bool
	Name     string // of the person
	Data     any
}

// templatesOf parses each page with the layout and the shared parts.
func templatesOf(static func(string) string) (map[string]*template.Template, error) {
	words := template.FuncMap{
		"static": static, "duration": durationText, "number": numberText, "bytes": bytesText,
		"when": whenText, "ago": agoText, "left": leftText, "shorten": shortened,
	}
	shared, err := template.New("").Funcs(words).ParseFS(templateFiles, "web/templates/layout.html", "web/templates/records.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, name := range []string{"overview", "letters", "letter", "edit", "revision", "bulk", "run", "audit", "login", "error"} {
		own, err := shared.Clone()
		if err == nil {
			own, err = own.ParseFS(templateFiles, "web/templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
		pages[name] = own
	}
	return pages, nil
}

// isFragment tells htmx' own requests, which replace a part of the page.
func isFragment(r *http.Request) bool {
	return r.Header.Get("Hx-Request") == "true" && r.Header.Get("Hx-Boosted") == "" && r.Header.Get("Hx-History-Restore-Request") == ""
}

// show writes a page, or its main part alone where htmx asks.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, v visitor, status int, name string, what page) {
	what.ReadOnly, what.SignedIn, what.Name = p.access.ReadOnly, v.session, v.who.Name
	block := "layout"
	if isFragment(r) {
		block = "main"
	}
	var b bytes.Buffer
	if err := p.templates[name].ExecuteTemplate(&b, block, what); err != nil {
		p.log.Error("a page of the console cannot be written", zap.String("page", name), zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "Hx-Request")
	w.WriteHeader(status)
	_, _ = w.Write(visibly(b.Bytes())) // as in livez
}

// visibly writes whatever a page would not show as \u202e and the like: control characters,
// overrides of the direction, characters without width, bytes that are no text. The
// templates hold none, so each of them came from outside.
func visibly(document []byte) []byte {
	if utf8.Valid(document) && !bytes.ContainsFunc(document, invisible) {
		return document
	}
	var b bytes.Buffer
	for i := 0; i < len(document); {
		r, size := utf8.DecodeRune(document[i:])
		switch {
		case r == utf8.RuneError && size == 1, invisible(r) && r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, document[i])
		case invisible(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case invisible(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.Write(document[i : i+size])
		}
		i += size
	}
	return b.Bytes()
}

func invisible(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }

// problem is the body of an answer of the API that is none.
type problem struct {
	Error string `json:"error"`
}

// fail answers a request that came to nothing: a page for people, JSON for programs.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, v visitor, status int, detail string) {
	if wantsJSON(r) {
		p.answer(w, status, problem{detail})
		return
	}
	heading := http.StatusText(status)
	p.show(w, r, v, status, "error", page{Title: heading, Nav: "error", Data: struct{ Heading, Detail string }{heading, detail}})
}

// failed answers for what the operator could not do.
func (p *Pages) failed(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	status := http.StatusBadGateway // NATS is what is behind us
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, errDraining):
		status = http.StatusServiceUnavailable
	case errors.Is(err, errBusy):
		status = http.StatusConflict
	case r.Context().Err() != nil: // nobody reads it
		return
	}
	p.fail(w, r, v, status, err.Error())
}

// wantsJSON tells programs from people.
func wantsJSON(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || r.Header.Get("Authorization") != "" || strings.Contains(r.Header.Get("Accept"), "application/json")
}

// answer writes one JSON document.
func (p *Pages) answer(w http.ResponseWriter, status int, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		p.log.Error("an answer of the API cannot be written", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // as in livez
}
