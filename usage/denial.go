package usage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// lookEvery is how often a publish that waits looks whether it was denied.
const lookEvery = 50 * time.Millisecond

// errUnanswerable says that answers cannot reach us: what is published may be stored.
var errUnanswerable = errors.New("the credentials may not subscribe to the inbox")

// denialWatch finds out that a publish was denied. The server tells the connection, not the
// call, which would wait for its time-out; the connection's last error shows it without
// touching its error handler.
type denialWatch struct {
	conn    *nats.Conn
	subject string
	before  error // the denial that was the last one before
}

func watchDenials(conn *nats.Conn, subject string) *denialWatch {
	w := &denialWatch{conn: conn, subject: subject}
	w.before = w.last()
	return w
}

// last is the connection's last error where that is a denial.
func (w *denialWatch) last() error {
	if w.conn == nil {
		return nil
	}
	if err := w.conn.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

// cutShort calls cancel as soon as the call is denied, until ctx ends.
func (w *denialWatch) cutShort(ctx context.Context, cancel func()) (stop func() bool) {
	var look func()
	look = func() {
		switch {
		case ctx.Err() != nil:
		case w.fresh() != nil:
			cancel()
		default:
			time.AfterFunc(lookEvery, look)
		}
	}
	return time.AfterFunc(lookEvery, look).Stop
}

// fresh is a denial since the watch began that concerns the call.
func (w *denialWatch) fresh() error {
	if denial := w.last(); denial != w.before { //nolint:errorlint // is it the very one of before?
		return w.concerning(denial)
	}
	return nil
}

// verdict is what a call without an answer died of: err itself, or the denial. A denied inbox
// is told of once, with the first call that would have used it.
func (w *denialWatch) verdict(err error) error {
	if denial := w.fresh(); denial != nil {
		return denial
	}
	if denial := w.concerning(w.last()); errors.Is(denial, errUnanswerable) {
		return denial
	}
	return err
}

// concerning returns the denial if it is of the subject, or of the inbox for the answer.
func (w *denialWatch) concerning(denial error) error {
	if denial == nil {
		return nil
	}
	prefix := strings.TrimSuffix(nats.InboxPrefix, ".")
	if own := w.conn.Opts.InboxPrefix; own != "" {
		prefix = own
	}
	text := denial.Error()
	switch {
	case strings.Contains(text, fmt.Sprintf("Publish to %q", w.subject)):
		return denial
	case strings.Contains(text, `Subscription to "`+prefix+"."):
		return fmt.Errorf("%w: %w", errUnanswerable, denial)
	}
	return nil
}
