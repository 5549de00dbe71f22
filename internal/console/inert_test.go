package console

import (
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile is what a producer, Stripe or another worker may have put into a text.
var hostile = []string{
	`<script>window.__xss=1</script>`,
	`</script><script>window.__xss=1</script>`,
	`"><img src=x onerror=window.__xss=1>`,
	`'><svg/onload=window.__xss=1>`,
	`" autofocus onfocus=window.__xss=1 x="`,
	`' onmouseover='window.__xss=1`,
	"` onmouseover=window.__xss=1 `",
	`javascript:window.__xss=1`,
	`data:text/html,<script>window.__xss=1</script>`,
	`</textarea><script>window.__xss=1</script>`,
	`</title><script>window.__xss=1</script>`,
	`</pre></details></table><iframe srcdoc="<script>1</script>">`,
	`<!--<script>`, `]]><script>1</script>`, `--><script>1</script>`,
	`<form action=https://evil.example><button>`,
	`<base href="//evil.example/">`,
	`<meta http-equiv=refresh content="0;url=//evil.example">`,
	`<style>*{display:none}</style>`,
	`<div hx-get="/x" hx-trigger="load" hx-on::load="window.__xss=1" data-hx-vals="js:1">`,
	`{{.}}{{template "layout" .}}`, `${1}`, `&lt;script&gt;`, `&#60;script&#62;`, `%3Cscript%3E`,
	"\x00<script>\x00", "\x1b[2J\x9b31m", "\xff\xfe<script>", "\ufeff", "\u2028\u2029",
	"safe\u202egnp.exe", "a\u200bb\u200cc\u2060", "\u2066<b>\u2069", "\U000e0041",
	strings.Repeat("<b>", 2000),
}

// shape is the elements and attributes of a page, without what stands in them. Attributes
// that take somewhere are checked beside it.
func shape(t *testing.T, document string) []string {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(document))
	decoder.Strict, decoder.AutoClose, decoder.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var names []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, document)
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			for _, attribute := range token.Attr {
				name += " " + attribute.Name.Space + ":" + attribute.Name.Local
				if goesSomewhere(attribute.Name.Local) && !strings.HasPrefix(attribute.Value, "/") && !strings.HasPrefix(attribute.Value, "#") {
					t.Errorf("<%s %s=%q> leads away", token.Name.Local, attribute.Name.Local, attribute.Value)
				}
				if strings.HasPrefix(attribute.Name.Local, "on") || attribute.Name.Local == "style" || attribute.Name.Local == "srcdoc" {
					t.Errorf("<%s> has %s", token.Name.Local, attribute.Name.Local)
				}
			}
			names = append(names, name)
		case xml.Comment:
			names = append(names, "comment")
		}
	}
}

func goesSomewhere(attribute string) bool {
	return slices.Contains([]string{"href", "src", "action", "formaction", "hx-get", "hx-post"}, attribute)
}

// inertPages are all pages that show what came from outside, by how to ask for them.
func inertPages(text string) map[string]visit {
	query := url.Values{}
	for _, name := range []string{"q", "reason", "code", "event_name", "customer", "episode", "since", "until", "actor", "action"} {
		query.Set(name, text)
	}
	q := "?" + query.Encode()
	return map[string]visit{
		"overview":          {"/", nil, 200},
		"letters":           {"/dead-letters" + q, nil, 200},
		"letters, bad page": {"/dead-letters?" + url.Values{"after": {text}}.Encode(), nil, 400},
		"letter":            {"/dead-letters/1", nil, 200},
		"no letter":         {"/dead-letters/" + url.PathEscape(text), nil, 404},
		"edit":              {"/dead-letters/1/edit", nil, 0},
		"preview":           {"/dead-letters/1/edit", url.Values{"body": {text}, "with": {"body"}}, 200},
		"bulk replay":       {"/dead-letters/replay" + q, nil, 200},
		"bulk discard":      {"/dead-letters/discard" + q, nil, 200},
		"run":               {"/runs/KNOWN", nil, 200},
		"audit":             {"/audit?" + url.Values{"actor": {text}, "since": {text}}.Encode(), nil, 200},
		"audit, bad action": {"/audit" + q, nil, 400},
		"failed":            {"/pause", url.Values{"why": {""}, "actor": {text}}, 400},
	}
}

// Whatever a text holds, a page has the elements and attributes that it has for a plain
// one, and nothing in it is invisible.
func TestHostileTextsAreInert(t *testing.T) {
	for _, flag := range []bool{false, true} {
		plain := map[string][]string{}
		for _, text := range append([]string{"plain"}, hostile...) {
			s := newScene(t, &fakeOperator{count: 2, text: text, flag: flag}, Access{Loopback: true})
			run, err := s.pages.runs.begin(Deed{Kind: Replay, IDs: []uint64{1}})
			if err != nil {
				t.Fatal(err)
			}
			s.settle()
			for name, page := range inertPages(text) {
				method := "GET"
				if page.form != nil {
					method = "POST"
				}
				w := s.request(method, strings.ReplaceAll(page.target, "KNOWN", run.id), page.form)
				if page.status != 0 && w.Code != page.status {
					t.Errorf("%s with %q: status %d, want %d", name, text, w.Code, page.status)
				}
				body := w.Body.String()
				if w.Header().Get("Content-Type") != "text/html; charset=utf-8" && name != "no letter" {
					t.Errorf("%s with %q: %s", name, text, w.Header().Get("Content-Type"))
					continue
				}
				if !utf8.ValidString(body) || strings.ContainsFunc(body, invisible) {
					t.Errorf("%s with %q shows something invisible", name, text)
				}
				if name == "no letter" { // a path with a slash is no letter's at all
					continue
				}
				got := shape(t, body)
				if text == "plain" {
					plain[name] = got
				} else if !slices.Equal(got, plain[name]) {
					t.Errorf("%s, %t, with %q: elements %q, want %q", name, flag, text, differing(got, plain[name]), differing(plain[name], got))
				}
			}
		}
	}
}

// differing are the first few of a that b has not at that place.
func differing(a, b []string) []string {
	var found []string
	for i, name := range a {
		if (i >= len(b) || b[i] != name) && len(found) < 5 {
			found = append(found, name)
		}
	}
	return found
}

func TestVisibly(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain\n\tü € 😀\u00e9", "plain\n\tü € 😀\u00e9"},
		{"\x00\x1b\x7f", `\x00\x1b\x7f`},
		{"\r", `\x0d`},
		{"\u202e\u200b\u00a0\ufeff", `\u202e\u200b\u00a0\ufeff`},
		{"\U000e0041", `\U000e0041`},
		{"a\xffb", `a\xffb`},
	} {
		if got := string(visibly([]byte(tt.in))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// The API says what there is, as JSON that no browser takes for a page.
func TestHostileTextsInTheAPI(t *testing.T) {
	for _, text := range hostile {
		s := newScene(t, &fakeOperator{count: 2, text: text}, Access{Loopback: true})
		for _, target := range []string{"/api/status", "/api/dead-letters", "/api/dead-letters/groups", "/api/series"} {
			w := s.request("GET", target, nil)
			if kind := w.Header().Get("Content-Type"); kind != "application/json" && kind != "application/x-ndjson" {
				t.Errorf("%s: %s", target, kind)
			}
			if body := w.Body.String(); strings.ContainsAny(body, "<>\x1b\x00") {
				t.Errorf("%s with %q: %s", target, text, body)
			}
		}
	}
}
