package browser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var reload = chromedp.Reload()

// Without JavaScript every page is there, and a replay works.
func TestWithoutJavaScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gallery()
	b := newTab(t, w.admin)
	b.scripts(false)
	for _, s := range screens {
		b.open(s.path)
		b.heading(s.heading)
		if value[bool](b, `document.documentElement.classList.contains('js')`) {
			t.Fatal("scripts run")
		}
		b.none("useless without scripts on "+s.path, `[...document.querySelectorAll('[data-theme-toggle], [data-keys], #plots, #connection')].filter((e) => e.checkVisibility()).map((e) => e.outerHTML)`)
	}
	b.open("/dead-letters")
	b.fill("[data-search]", "refused-2")
	b.click("search button")
	b.until(`location.search.includes('q=refused-2')`)
	b.heading("Dead letters")
	b.click("[data-label=Id] a")
	b.until(`document.querySelector("h1").textContent.startsWith("Dead letter ") && document.body.textContent.includes("refused-2")`)
	b.clickText("Replay as it is")
	b.heading("Replay of dead letter ")
	w.billed(3, "refused-2")
	b.until(`document.querySelector('#run').textContent.includes('delivered') || (document.querySelector('noscript a')?.click(), false)`)
}

// A console that is read-only shows everything and offers nothing.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "METERWORKER_ADMIN_READ_ONLY=true")
	w.gallery()
	b := newTab(t, w.admin)
	for _, s := range screens {
		if strings.Contains(s.path, "edit") || strings.Contains(s.path, "/replay") || strings.Contains(s.path, "/discard") {
			continue // they are refused; see below
		}
		b.open(s.path)
		b.heading(s.heading)
		b.none("offered on "+s.path, `[...document.querySelectorAll('form[method=post], main a[href*="/edit"], main a[href*="/replay"], main a[href*="/discard"]')].map((e) => e.outerHTML)`)
	}
	b.fits("read-only")
	b.silent()
	b.open("/dead-letters/6/edit")
	b.heading("Forbidden")
	b.fits("error")
	for _, complaint := range b.complaints() {
		if !strings.Contains(complaint, "403") {
			t.Error(complaint)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-tests-0123456789"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "METERWORKER_ADMIN_TOKEN_FILE="+file)
	w.bury(1, "login")
	b := newTab(t, w.admin)
	b.open("/dead-letters/1")
	b.heading("Sign in")
	b.none("missing", strings.NewReplacer(`one('nav[aria-label="Pages"]');`, "", `one('nav [aria-current="page"]');`, "").Replace(structure))
	b.fits("login")
	b.fill("[name=token]", "wrong")
	b.clickText("Sign in")
	b.until(`document.querySelector('[role=alert]')?.textContent.includes('not the token')`)
	for _, complaint := range b.complaints() {
		if !strings.Contains(complaint, "401") {
			t.Error(complaint)
		}
	}
	b.fill("[name=token]", token)
	b.fill("[name=name]", "Ada")
	b.clickText("Sign in")
	b.heading("Dead letter 1")
	if cookies := value[string](b, "document.cookie"); cookies != "" {
		t.Errorf("a script can read the cookies: %s", cookies)
	}
	b.clickText("Replay as it is")
	b.heading("Replay of dead letter 1")
	b.outcome("delivered")
	b.inTheTrail("replay", "Ada")
	b.click(`form[action="/logout"] button`)
	b.heading("Sign in")
	b.open("/")
	b.heading("Sign in")
}
