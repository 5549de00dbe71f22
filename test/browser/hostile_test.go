package browser

import (
	"fmt"
	"testing"
)

// harm names what a payload brought into the page: nothing of this is in a template.
const harm = `(() => {
	const found = [];
	if (window.__xss !== undefined) found.push('window.__xss');
	for (const e of document.querySelectorAll('*')) {
		for (const a of e.attributes) {
			if (/^on/i.test(a.name) || /^hx-on/i.test(a.name) || a.name === 'srcdoc' || /^\s*javascript:/i.test(a.value) && a.name !== 'value') found.push(e.outerHTML.slice(0, 200));
		}
	}
	for (const e of document.querySelectorAll('script')) {
		if (!/^\/static\/[a-z.]+\?v=[0-9a-f]+$/.test(e.getAttribute('src')) || e.textContent) found.push(e.outerHTML.slice(0, 200));
	}
	for (const e of document.querySelectorAll('img, iframe, svg, math, object, embed, base, main style, main meta, main b, [id^="x-"]')) found.push(e.outerHTML.slice(0, 200));
	for (const e of document.querySelectorAll('a[href]')) {
		if (new URL(e.href).origin !== location.origin) found.push(e.outerHTML.slice(0, 200));
	}
	if (/[\u202a-\u202e\u2066-\u2069\u200b]/.test(document.documentElement.outerHTML)) found.push('a character that hides');
	return found;
})()`

// Hostile text in every field, on every page that shows data of a payload: nothing runs,
// nothing becomes an element, and the page says nothing to the browser's console.
func TestHostilePayloads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buryHostile()
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.none("harm on the overview", harm)
	names := len(together(100))
	seen := 0
	for next := "/dead-letters"; next != ""; seen++ {
		b.open(next)
		b.heading("Dead letters")
		b.none("harm on "+next, harm)
		next = value[string](b, `document.querySelector('[rel=next]')?.getAttribute('href') ?? ''`)
	}
	if w.letters() < names+8 || seen < 1 {
		t.Errorf("%d letters on %d pages", w.letters(), seen)
	}
	for id := 1; id <= w.letters(); id++ {
		path := fmt.Sprintf("/dead-letters/%d", id)
		b.open(path)
		b.heading(fmt.Sprintf("Dead letter %d", id))
		b.none("harm on "+path, harm)
		if value[bool](b, fmt.Sprintf(`document.querySelector('a[href="%s/edit"]') !== null`, path)) {
			b.open(path + "/edit")
			b.heading("Edit dead letter")
			b.none("harm on "+path+"/edit", harm)
		}
		b.silent()
	}
	b.hostileEdit()
	b.hostileSearch()
}

// hostileEdit previews an edit with hostile text, and leaves some in the audit trail.
func (b *tab) hostileEdit() {
	b.t.Helper()
	text := hostile[2]
	b.open("/dead-letters/1/edit")
	b.heading("Edit dead letter 1")
	b.fill("[name=new_name]", "region")
	b.fill("[name=new_value]", text)
	b.clickText("Preview")
	b.heading("Publish the edited event?")
	b.none("harm on the preview", harm)
	b.fill("[name=why]", text)
	b.fill("[name=actor]", text)
	b.clickText("Publish")
	b.heading("Edit of dead letter 1")
	b.none("harm on the run", harm)
	b.inTheTrail("edit", text)
	b.none("harm on the audit trail", harm)
}

// hostileSearch goes by way of htmx, and by way of the address.
func (b *tab) hostileSearch() {
	b.t.Helper()
	for _, text := range hostile[:3] {
		b.open("/dead-letters")
		b.heading("Dead letters")
		b.fill("[data-search]", text)
		b.until(`location.search.includes('q=')`)
		b.none("harm in the results of htmx", harm)
		b.do("reload", reload)
		b.heading("Dead letters")
		b.none("harm in the results of the address", harm)
	}
}
