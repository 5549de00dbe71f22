package browser

import (
	"fmt"
	"testing"
)

// screen is one page of the console.
type screen struct {
	name, path, heading string
}

// screens need a gallery: letter 1 was refused by Stripe, letter 6 has a wrong value.
var screens = []screen{
	{"overview", "/", "Overview"},
	{"letters", "/dead-letters", "Dead letters"},
	{"letters-filtered", "/dead-letters?reason=rejected&q=refused", "Dead letters"},
	{"letters-none", "/dead-letters?q=nothing-has-this", "Dead letters"},
	{"letter", "/dead-letters/1", "Dead letter 1"},
	{"letter-value", "/dead-letters/6", "Dead letter 6"},
	{"edit", "/dead-letters/6/edit", "Edit dead letter 6"},
	{"replay", "/dead-letters/replay", "Replay 9 dead letters?"},
	{"discard", "/dead-letters/discard?reason=rejected", "Discard 5 dead letters?"},
	{"audit", "/audit", "Audit trail"},
}

// colours of an element: its text, and what it stands on.
const contrastOf = `(() => {
	const rgb = (text) => text.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	const texts = [...document.querySelectorAll('h1, h2, p, a, td, th, dt, dd, li, label, button, summary, caption, small, input, pre, code, .badge, figcaption, .u-label')];
	return texts.filter((e) => e.checkVisibility() && (e.matches('input') || [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))).map((e) => {
		const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
		return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + '.' + e.className + ' ' + e.textContent.trim().slice(0, 40)];
	}).filter(([ratio]) => ratio < 4.5).map(([ratio, what]) => ratio.toFixed(2) + ' ' + what);
})()`

// tooWide names what sticks out to the right, if the page scrolls sideways.
const tooWide = `document.documentElement.scrollWidth <= innerWidth ? [] :
	[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))`

// structure names what a page lacks that screen readers go by.
const structure = `(() => {
	const missing = [];
	const one = (selector) => { const n = document.querySelectorAll(selector).length; if (n !== 1) missing.push(n + ' ' + selector); };
	one('h1'); one('main'); one('body > header'); one('nav[aria-label="Pages"]'); one('a.skip'); one('html[lang]'); one('nav [aria-current="page"]');
	for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
		if (!e.labels?.length) missing.push('label of ' + e.outerHTML);
	}
	for (const e of document.querySelectorAll('table:not(#plots *)')) {
		if (!e.caption || !e.querySelector('th[scope]')) missing.push('caption or scope of ' + e.outerHTML.slice(0, 80));
	}
	for (const e of document.querySelectorAll('a, button')) {
		if (!e.textContent.trim() && !e.getAttribute('aria-label')) missing.push('text of ' + e.outerHTML);
	}
	for (const e of document.querySelectorAll('[style]:not(#plots *), script:not([src]), style')) missing.push('nothing inline: ' + e.outerHTML.slice(0, 80));
	const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
	for (const id of ids.filter((id, i) => ids.indexOf(id) !== i)) missing.push('one #' + id);
	return missing;
})()`

func TestScreens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gallery()
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			b := newTab(t, w.admin)
			b.prefer(scheme)
			for _, s := range screens {
				b.look(s, scheme)
			}
		})
	}
}

// look checks a screen on a desk and on a phone.
func (b *tab) look(s screen, scheme string) {
	b.t.Helper()
	b.width(1280)
	b.open(s.path)
	b.heading(s.heading)
	if s.path == "/" {
		b.until(`document.querySelector('#connection').textContent === 'live' && document.querySelectorAll('.u-wrap canvas').length === 5`)
	}
	if title := value[string](b, "document.title"); title == "" || title == "meterworker" {
		b.t.Errorf("title %q", title)
	}
	b.none("missing", structure)
	b.fits(fmt.Sprintf("%s-%s", s.name, scheme))
	b.silent()
}

// fits checks what is shown on a desk and on a phone, and leaves pictures of both.
func (b *tab) fits(name string) {
	b.t.Helper()
	for suffix, pixels := range map[string]int64{"": 1280, "-phone": 360} {
		b.width(pixels)
		b.none("low contrast"+suffix, contrastOf)
		b.none("too wide"+suffix, tooWide)
		b.picture(name + suffix)
	}
	b.width(1280)
}

// none fails for each entry of a list that the page computes.
func (b *tab) none(what, expression string) {
	b.t.Helper()
	for _, entry := range value[[]string](b, expression) {
		b.t.Errorf("%s at %s: %s", what, value[string](b, "location.pathname + location.search"), entry)
	}
}
