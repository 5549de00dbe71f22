package browser

import (
	"fmt"
	"slices"
	"strings"
)

// hostile is what somebody who may publish could put into an event in the hope that an
// operator's browser runs it. What it would do is set window.__xss or open a dialog.
var hostile = []string{
	`<script>window.__xss=1;alert(1)</script>`,
	`</script><script>window.__xss=1</script>`,
	`<img src=x onerror="window.__xss=1;alert(1)">`,
	`<svg onload=window.__xss=1><animate onbegin=alert(1)>`,
	`"><svg/onload=window.__xss=1>`,
	`' autofocus onfocus='window.__xss=1' x='`,
	`" onmouseover="window.__xss=1" x="`,
	`</textarea><script>window.__xss=1</script>`,
	`</title></style></pre><iframe srcdoc="<script>parent.__xss=1</script>">`,
	`javascript:window.__xss=1//`,
	`<a href="javascript:window.__xss=1" id=x-link>click</a>`,
	`<div hx-get="/audit" hx-trigger="load" hx-on::load="window.__xss=1">`,
	`<meta http-equiv=refresh content="0;url=javascript:window.__xss=1">`,
	`<base href="http://127.0.0.1:1/">`,
	`{{.}}${window.__xss=1}<!--`,
	`<math><mtext><table><mglyph><style><img src=x onerror=window.__xss=1>`,
	"\u202e\u200b<b id=x-bold>gnp.exe\u202c",
}

// together joins hostile texts into as few as fit, each at most so many bytes long.
func together(most int) []string {
	var joined []string
	for _, text := range hostile {
		if last := len(joined) - 1; last >= 0 && len(joined[last])+len(text) <= most {
			joined[last] += text
			continue
		}
		joined = append(joined, text)
	}
	return joined
}

// buryHostile makes dead letters with every hostile text in each field that takes it: name of
// the event, customer, identifier, name and value of a dimension, Stripe's code, and bodies
// that are no event.
func (w *world) buryHostile() {
	w.t.Helper()
	const shortName, shortText = 100, 240 // bytes; an event name and a customer take the one, an identifier the other
	var dimensions, identifiers, names []string
	for i, texts := range slices.Collect(slices.Chunk(hostile, 6)) {
		var pairs []string
		for _, text := range texts {
			pairs = append(pairs, text[:min(len(text), 40)], text)
		}
		dimensions = append(dimensions, event("broken_meter", "cus_x", fmt.Sprintf("dimension-%d", i), 1, pairs...))
	}
	for _, text := range together(shortText) {
		identifiers = append(identifiers, event("broken_meter", "cus_x", text, 1))
	}
	for i, text := range together(shortName) {
		names = append(names, event(text, text, fmt.Sprintf("name-%d", i), 1))
	}
	// A code each: most events refused with one and the same would halt the worker.
	w.buryLines("in_a_dimension", dimensions)
	w.buryLines("in_the_identifier", identifiers)
	w.buryLines(strings.Join(hostile, ""), names)
	before := w.letters()
	bodies := together(1 << 10)
	for i, text := range bodies {
		w.publishRaw("broken_meter.cus_x", text)
		w.publishRaw("broken_meter.cus_x", fmt.Sprintf(`{"event_name":"broken_meter","identifier":"v%d","payload":{"stripe_customer_id":"cus_x","value":%q}}`, i, text))
	}
	w.untilLetters(before + 2*len(bodies))
}

// buryLines has Stripe refuse the events of all lines with a code.
func (w *world) buryLines(code string, lines []string) {
	w.t.Helper()
	before := w.letters()
	mend := w.refuseEverything(code)
	w.publish(lines...)
	w.untilLetters(before + len(lines))
	mend()
}

// bury makes n dead letters that Stripe refused, which deliver once they are replayed; their
// identifiers are the prefix with a number.
func (w *world) bury(n int, prefix string) {
	w.t.Helper()
	lines := make([]string, n)
	for i := range lines {
		lines[i] = event("broken_meter", fmt.Sprintf("cus_%d", i%7), fmt.Sprintf("%s-%d", prefix, i), 3)
	}
	w.buryLines("archived_meter", lines)
}

// buryWrongValue makes one dead letter whose value is no whole number.
func (w *world) buryWrongValue(identifier string) {
	w.t.Helper()
	before := w.letters()
	w.publishRaw("api_calls.cus_9", fmt.Sprintf(`{"event_name":"api_calls","identifier":%q,"payload":{"stripe_customer_id":"cus_9","value":"12.5"}}`, identifier))
	w.untilLetters(before + 1)
}

// gallery is some of everything, for the screens.
func (w *world) gallery() {
	w.t.Helper()
	w.bury(5, "refused")
	w.buryWrongValue("wrong-value")
	w.publishRaw("api_calls.cus_9", "{not json")
	w.publishRaw("api_calls.cus_9", `{"event_name":"api_calls","identifier":"old","timestamp":1500000000,"payload":{"stripe_customer_id":"cus_9","value":1}}`)
	w.publish(event("api_calls", "cus_1", "same", 1))
	w.publish(event("api_calls", "cus_1", "same", 2)) // a conflict
	w.untilLetters(9)
	w.command("", "pause", "--why", "a rehearsal")
	w.command("", "resume")
}
