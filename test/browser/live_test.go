package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// What is published while the overview is open shows without a reload.
func TestTheOverviewIsLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.until(`document.querySelector('#connection').textContent === 'live'`)
	value[bool](b, `window.unchanged = true`)
	w.publish(event("api_calls", "cus_1", "first", 5))
	w.billed(5, "first")
	w.bury(2, "dead")
	b.until(`document.querySelector('[data-status="dead_letters.total"]').textContent === '2'`)
	b.until(`document.querySelector('#live-dead').textContent.includes('rejected')`)
	b.until(`[...document.querySelectorAll('#live-streams tr')].some((e) => e.textContent.startsWith('USAGE_DLQ') || e.textContent.includes('USAGE_DLQ'))`)
	b.until(`document.querySelector('[data-plot=outcomes] .canvas').getAttribute('aria-label').includes('dead')`)
	if !value[bool](b, `window.unchanged === true`) {
		t.Error("the page was loaded again")
	}
}

// A fault of the set-up: the first line says that, why, and what to do; trying again is on
// the page.
func TestAHaltedWorkerSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	w.faults(http.MethodPost, `{"kind":"unauthorized"}`)
	w.publish(event("api_calls", "cus_1", "halted", 4))
	b.until(`document.querySelector('[data-status=verdict]').textContent === 'halted'`)
	b.until(`document.querySelector('#live-verdict').classList.contains('bad') && document.querySelector('#live-verdict li').textContent.includes('401')`)
	b.until(`document.querySelector('[data-status=remedy]').textContent.includes('Mend')`)
	b.picture("halted")
	w.faults(http.MethodDelete, "")
	b.clickText("Make a halted worker try again")
	b.click("#again button")
	w.billed(4, "halted")
	b.until(`document.querySelector('[data-status=verdict]')?.textContent === 'idle'`)
}

// A page whose worker has gone says so, and since when; it goes on by itself when there is
// one again.
func TestTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.until(`document.querySelector('#connection').textContent === 'live'`)
	w.stop()
	b.until(`/^connection lost, last update at \d\d:\d\d:\d\dZ$/.test(document.querySelector('#connection').textContent)`)
	b.until(`document.documentElement.classList.contains('offline')`)
	b.picture("connection-lost")
	w.startWorker(strings.TrimPrefix(w.admin, "http://"))
	b.until(`document.querySelector('#connection').textContent === 'live' && !document.documentElement.classList.contains('offline')`)
	b.do("leave", chromedp.Navigate("about:blank"))
	b.complaints() // the browser's own, of a server that was away
}
