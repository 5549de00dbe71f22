package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

const focused = `document.activeElement.textContent.trim().replace(/\s+/g, ' ')`

// tabTo presses Tab until what has the focus says so.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	const most = 60
	var seen []string
	for range most {
		b.keys(kb.Tab)
		here := value[string](b, focused)
		if here == text {
			if width := value[string](b, `getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth`); width != "solid3px" {
				b.t.Errorf("the focus on %q is not visible: outline %s", text, width)
			}
			return
		}
		seen = append(seen, here)
	}
	b.t.Fatalf("Tab does not come to %q in %d steps: %q", text, most, seen)
}

// From the overview to a delivered event without a mouse.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bury(1, "by-keys")
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.keys(kb.Tab)
	if first := value[string](b, focused); first != "Skip to the content" {
		t.Errorf("Tab begins at %q", first)
	}
	b.keys(kb.Enter)
	b.until(`document.activeElement.id === 'main'`)
	b.keys("gd")
	b.heading("Dead letters")
	b.tabTo("rejected")
	b.keys(kb.Enter)
	b.until(`location.search.includes('reason=rejected')`)
	b.heading("Dead letters")
	b.tabTo("1")
	b.keys(kb.Enter)
	b.heading("Dead letter 1")
	b.tabTo("Replay as it is")
	b.keys(kb.Enter)
	b.heading("Replay of dead letter 1")
	b.outcome("delivered")
	w.billed(3, "by-keys-0")
}

func TestShortcuts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bury(3, "rows")
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")

	b.keys("?")
	b.until(`document.querySelector('#keys').open`)
	b.picture("keys")
	b.keys("gd") // nothing while the list is open
	b.keys(kb.Escape)
	b.until(`!document.querySelector('#keys').open`)
	if here := value[string](b, "location.pathname"); here != "/" {
		t.Errorf("a key in the list of keys led to %s", here)
	}

	b.keys("ga")
	b.heading("Audit trail")
	b.keys("go")
	b.heading("Overview")
	b.keys("/")
	b.heading("Dead letters")
	b.until(`document.activeElement.matches('[data-search]')`)
	b.keys("gd?jk") // typed, not obeyed
	if text := value[string](b, "document.activeElement.value"); text != "gd?jk" {
		t.Errorf("the search holds %q", text)
	}
	b.until(`document.querySelector('#results').textContent.includes('No letter matches')`)
	b.until(`location.search.includes('q=gd')`)
	b.until(`document.querySelector('#said').textContent.startsWith('0 match')`)
	if !value[bool](b, `document.activeElement.matches('[data-search]')`) {
		t.Error("the search lost the focus when its results came")
	}

	b.open("/dead-letters?since=2h")
	b.heading("Dead letters")
	b.fill("[name=since]", "yester")
	b.until(`document.querySelector('#results [role=alert]') !== null && location.pathname === '/dead-letters'`)
	if text := value[string](b, "document.activeElement.value"); text != "yester" {
		t.Errorf("half a time in the search became %q", text)
	}
	for _, complaint := range b.complaints() {
		if !strings.Contains(complaint, "400") {
			t.Error(complaint)
		}
	}

	b.open("/dead-letters")
	b.heading("Dead letters")
	b.keys("j") // the group
	b.keys("jjjjj")
	b.until(`document.activeElement.textContent === '3'`)
	b.keys("k")
	b.until(`document.activeElement.textContent === '2'`)
	b.keys(kb.Enter)
	b.heading("Dead letter 2")
}

func TestThemes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newTab(t, w.admin)
	const ground = `getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor`
	b.prefer("dark")
	b.open("/audit")
	b.heading("Audit trail")
	dark := value[string](b, ground)
	b.click("[data-theme-toggle]")
	b.until(`document.querySelector('[data-theme-toggle]').textContent === 'Theme: light'`)
	light := value[string](b, ground)
	if dark == light {
		t.Errorf("light and dark are both on %s", dark)
	}

	// Remembered, against the system, before anything is drawn.
	b.open("/dead-letters")
	b.heading("Dead letters")
	if here := value[string](b, ground); here != light {
		t.Errorf("the next page is on %s, chosen was light, %s", here, light)
	}
	b.click("[data-theme-toggle]")
	b.prefer("light")
	if here := value[string](b, ground); here != dark {
		t.Errorf("chosen was dark, %s, the page is on %s", dark, here)
	}
	b.click("[data-theme-toggle]") // auto again
	b.until(`document.querySelector('[data-theme-toggle]').textContent === 'Theme: auto'`)
	if here := value[string](b, ground); here != light {
		t.Errorf("the system is light, the page is on %s", here)
	}
}
