package browser

import (
	"fmt"
	"strings"
	"testing"
)

// mostClicks is what it may take a new operator to get from the overview to a corrected and
// delivered event.
const mostClicks = 6

// counted fails unless the clicks so far are few enough.
func (b *tab) counted() {
	b.t.Helper()
	b.t.Logf("%d clicks", b.clicks)
	if b.clicks == 0 || b.clicks > mostClicks {
		b.t.Errorf("it took %d clicks, %d are allowed", b.clicks, mostClicks)
	}
}

// billed waits until Stripe has counted so many units under each identifier.
func (w *world) billed(units int64, identifiers ...string) {
	w.t.Helper()
	w.until(fmt.Sprintf("Stripe has counted %d units for each of %v", units, identifiers), func() bool {
		have := w.units()
		for _, identifier := range identifiers {
			if have[identifier] != units {
				return false
			}
		}
		return true
	})
}

// outcome waits until the page of a run says that it is done, and how.
func (b *tab) outcome(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('#run .notice')?.textContent.includes('done') && !document.querySelector('#run[hx-get]') &&
		document.querySelector('#run').textContent.includes(%q)`, text))
}

func TestReplayOfAGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bury(3, "group")
	w.buryWrongValue("other")
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.clickText("rejected")
	b.heading("Dead letters")
	b.clickText("Replay all that match")
	b.heading("Replay 3 dead letters?")
	b.clickText("Replay 3")
	b.heading("Replay of many dead letters")
	b.outcome("delivered")
	b.counted()
	w.billed(3, "group-0", "group-1", "group-2")
	w.untilLetters(1)
}

func TestEditOfAValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.buryWrongValue("corrected")
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.clickText("meter_event_invalid_value")
	b.heading("Dead letters")
	b.click("[data-label=Id] a")
	b.heading("Dead letter 1")
	b.clickText("Edit")
	b.heading("Edit dead letter 1")
	b.fill(`[name="field.payload.value"]`, "12")
	b.clickText("Preview")
	b.heading("Publish the edited event?")
	b.until(`document.querySelector('del').textContent.includes('12.5') && document.querySelector('ins').textContent.includes('12')`)
	b.fits("revision")
	b.fill("[name=why]", "half a unit is not billed")
	b.clickText("Publish")
	b.heading("Edit of dead letter 1")
	b.outcome("delivered")
	b.fits("run-delivered")
	b.counted()
	w.billed(12, "corrected")
	w.untilLetters(0)
	b.inTheTrail("edit", "half a unit is not billed", `"12.5" → 12`)
}

// inTheTrail looks for a record of the audit trail with all these texts.
func (b *tab) inTheTrail(texts ...string) {
	b.t.Helper()
	b.open("/audit")
	b.heading("Audit trail")
	rows := value[[]string](b, `[...document.querySelectorAll('tbody tr')].map((e) => e.textContent)`)
	for _, row := range rows {
		found := 0
		for _, text := range texts {
			if strings.Contains(row, text) {
				found++
			}
		}
		if found == len(texts) {
			return
		}
	}
	b.t.Errorf("no record of the audit trail has all of %q: %q", texts, rows)
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bury(1, "gone")
	b := newTab(t, w.admin)
	b.open("/dead-letters/1")
	b.heading("Dead letter 1")
	b.clickText("Discard")
	b.click(`form[action$="/discard"] button`)
	// The browser asks for a reason and sends nothing.
	if here := value[string](b, "location.pathname"); here != "/dead-letters/1" {
		t.Fatalf("without a reason the page went to %s", here)
	}
	b.fill(`form[action$="/discard"] [name=why]`, "a load test")
	b.fill(`form[action$="/discard"] [name=actor]`, "Ada")
	b.click(`form[action$="/discard"] button`)
	b.heading("Discard of dead letter 1")
	b.outcome("discarded")
	w.untilLetters(0)
	b.inTheTrail("discard", "a load test", "Ada")
	if units := w.units()["gone-0"]; units != 0 {
		t.Errorf("Stripe counted %d units of what was discarded", units)
	}
}

// Forty letters at ten a second: the page shows how far it is, and the run can be stopped.
func TestBulkReplayShowsProgressAndStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bury(40, "many")
	b := newTab(t, w.admin)
	b.open("/dead-letters/replay")
	b.heading("Replay 40 dead letters?")
	b.fill("[name=rate]", "10")
	b.clickText("Replay 40")
	b.heading("Replay of many dead letters")
	b.until(`document.querySelector('#run progress')?.value > 0 && document.querySelector('#run progress').max === 40`)
	b.picture("run")
	b.clickText("Stop")
	b.until(`document.querySelector('#run .notice').textContent.includes('stopped')`)
	left := w.letters()
	if left == 0 || left == 40 {
		t.Errorf("%d of 40 letters are left after a stop half-way", left)
	}
	b.open("/dead-letters/replay")
	b.fill("[name=rate]", "10")
	b.clickText(fmt.Sprintf("Replay %d", left))
	b.heading("Replay of many dead letters")
	value[bool](b, `document.querySelector('#stop').focus() === undefined`)
	b.outcome("delivered")
	b.until(`document.activeElement.matches('#run .notice')`) // the button that had the focus is gone
	identifiers := make([]string, 40)
	for i := range identifiers {
		identifiers[i] = fmt.Sprintf("many-%d", i)
	}
	w.billed(3, identifiers...)
	w.untilLetters(0)
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newTab(t, w.admin)
	b.open("/")
	b.heading("Overview")
	b.clickText("Pause the fleet")
	b.fill("#pause-why", "Stripe announced work")
	b.fill("#pause [name=actor]", "Grace")
	b.click("#pause button")
	b.until(`document.querySelector('[data-status=verdict]')?.textContent === 'paused'`)
	b.until(`document.querySelector('#live-orders').textContent.includes('Stripe announced work')`)
	b.picture("paused")
	w.publish(event("api_calls", "cus_1", "later", 7))
	b.until(`document.querySelector('[data-status="backlog.pending"]').textContent === '1'`)
	if units := w.units(); len(units) != 0 {
		t.Errorf("Stripe counted %v while the fleet was paused", units)
	}
	b.click(`form[action="/resume"] button`)
	w.billed(7, "later")
	b.until(`document.querySelector('[data-status=verdict]')?.textContent === 'idle'`)
	b.inTheTrail("pause", "Stripe announced work", "Grace")
	b.inTheTrail("resume", "Grace")
}
