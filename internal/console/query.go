package console

import (
	"net/url"
	"strconv"
	"strings"
)

// filterFields are the fields of the form that select letters, by their names in an address.
type filterFields struct {
	Q, Reason, Code, EventName, Customer, Episode, Since, Until string
}

func filterOf(form url.Values) filterFields {
	return filterFields{
		form.Get("q"), strings.Join(form["reason"], ","), form.Get("code"), form.Get("event_name"), form.Get("customer"), form.Get("episode"), form.Get("since"), form.Get("until"),
	}
}

// pairs are the fields that select, in the order of the form.
func (f filterFields) pairs() []Field {
	var pairs []Field
	for _, field := range []Field{
		{"q", f.Q},
		{"reason", f.Reason},
		{"code", f.Code},
		{"event_name", f.EventName},
		{"customer", f.Customer},
		{"episode", f.Episode},
		{"since", f.Since},
		{"until", f.Until},
	} {
		if field.Value != "" {
			pairs = append(pairs, field)
		}
	}
	return pairs
}

// address is a path with the filter, and more.
func (f filterFields) address(path string, more ...Field) string {
	query := url.Values{}
	for _, field := range append(f.pairs(), more...) {
		query.Set(field.Name, field.Value)
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

func (f filterFields) query() Query {
	q := Query{Code: f.Code, EventName: f.EventName, Customer: f.Customer, Episode: f.Episode, Text: f.Q, Since: f.Since, Until: f.Until}
	if f.Reason != "" {
		q.Reasons = strings.Split(f.Reason, ",")
	}
	return q
}

// resolved are the fields again, with the times fixed.
func (f filterFields) resolved(q Query) filterFields {
	f.Since, f.Until = q.Since, q.Until
	return f
}

// number is a whole number of a form; 0 where there is none, ok tells whether it was one.
func number(text string) (n uint64, ok bool) {
	if text == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
