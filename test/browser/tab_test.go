package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is one page of the browser, with cookies and storage of its own.
type tab struct {
	t      *testing.T
	base   string // of the console
	ctx    context.Context
	clicks int

	mu       sync.Mutex
	complain []string // what the page complained about
	dialogs  []string
}

// newTab opens a tab, which fails the test if its pages complain.
func newTab(t *testing.T, base string) *tab {
	t.Helper()
	b := &tab{t: t, base: base}
	ctx, cancel := newPage(chromedp.WithNewBrowserContext(), chromedp.WithListener(b.hear))
	b.ctx = ctx
	t.Cleanup(func() {
		if t.Failed() {
			b.picture("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		cancel()
		b.silent()
	})
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of this call
		t.Fatal(err)
	}
	command(b, audits.Enable, cdp.Empty{})
	b.width(1280)
	return b
}

// hear takes down complaints and dialogs.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.complain = append(b.complain, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		b.complain = append(b.complain, fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			text := fmt.Sprintf("console.%s:", e.Type)
			for _, arg := range e.Args {
				text += fmt.Sprintf(" %s%s", arg.Value, arg.Description)
			}
			b.complain = append(b.complain, text)
		}
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodePerformanceIssue {
			return // of document.cookie, which only a test reads
		}
		b.complain = append(b.complain, fmt.Sprintf("issue: %s", e.Issue.Code))
	case *page.EventJavascriptDialogOpening:
		b.dialogs = append(b.dialogs, e.Message)
		go func() { // it blocks the page
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

// silent fails the test if a page complained, and forgets it.
func (b *tab) silent() {
	b.t.Helper()
	for _, complaint := range b.complaints() {
		b.t.Errorf("the page complains: %s", complaint)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.dialogs {
		b.t.Errorf("a dialog opened: %s", text)
	}
	b.dialogs = nil
}

// complaints returns what the page complained about, and forgets it.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.complain
	b.complain = nil
	return all
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// command sends one of the protocol.
func command[P, R any](b *tab, c cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, c, params); err != nil {
		b.t.Fatalf("%s: %v", c.Method, err)
	}
}

// open goes to a path of the console.
func (b *tab) open(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.base+path))
}

// value is that of a JavaScript expression.
func value[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := tryValue[T](b, expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func tryValue[T any](b *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// until waits for an expression to be true, over any number of pages.
func (b *tab) until(expression string) {
	b.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		holds, err := tryValue[bool](b, "Boolean("+expression+")")
		if holds && err == nil {
			return
		}
		last = errors.Join(err) // a page that is just going away has no answer
		select {
		case <-ticker.C:
		case <-deadline.C:
			b.t.Fatalf("waited %s for %s (%v) at %s, which shows:\n%s", patience, expression, last, value[string](b, "location.href"), b.shown())
		}
	}
}

// shown is the text of the page, for messages.
func (b *tab) shown() string {
	text, _ := tryValue[string](b, "document.body.innerText") // beside another failure
	return text[:min(len(text), 1500)]
}

// heading waits for the page with that heading, completely loaded.
func (b *tab) heading(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.readyState === 'complete' && document.querySelector('h1')?.textContent.includes(%q)", text))
}

// click is one click of a person, with the mouse.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.clicks++
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// clickText clicks the link, button or summary with that text.
func (b *tab) clickText(text string) {
	b.t.Helper()
	b.clicks++
	path := fmt.Sprintf(`//main//*[self::a or self::button or self::summary][contains(normalize-space(.), %q)]`, text)
	b.do("click "+text, chromedp.Click(chromedp.Search(path), chromedp.NodeVisible))
}

// fill writes a text into a field, in the place of what was there.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do("fill "+selector, chromedp.Clear(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// keys presses keys, wherever the focus is.
func (b *tab) keys(keys string) {
	b.t.Helper()
	b.do("press "+keys, chromedp.KeyEvent(keys))
}

// width makes the window so wide; 360 is a small phone.
func (b *tab) width(pixels int64) {
	b.t.Helper()
	b.do("resize", chromedp.EmulateViewport(pixels, 900))
}

// prefer is what the system says about colours: light or dark.
func (b *tab) prefer(scheme string) {
	b.t.Helper()
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
}

// scripts switches JavaScript on and off for the pages to come.
func (b *tab) scripts(on bool) {
	b.t.Helper()
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// picture leaves a screenshot of the whole page among the evidence.
func (b *tab) picture(name string) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	image, err := chromedp.Run(ctx, chromedp.FullScreenshot(100)) // 100 is a PNG
	if err == nil {
		err = os.MkdirAll(*evidenceDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(*evidenceDir, name+".png"), image, 0o644)
	}
	if err != nil {
		b.t.Errorf("picture %s: %v", name, err)
	}
}
