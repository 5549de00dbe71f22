package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestALookThatTookTooLong: an owner that stood still while it looked for a letter looks
// again: somebody else may have stored it since, and the message ids are forgotten.
func TestALookThatTookTooLong(t *testing.T) {
	for name, c := range map[string]struct {
		takes    time.Duration
		searches int
	}{"at once": {0, 1}, "three minutes": {3 * time.Minute, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.outbox.publish(subject("cus_1"), []byte("no event"), nil)
				w.fail("publish", fault{lost: true}) // announced; whether it was stored nobody knows
				l := w.start()
				elapse(time.Minute)
				l.drain()
				w.letters.during = func(of deadletter.Letter) {
					if c.takes > 0 { // the other owner finishes it
						_ = w.letters.publish(of, nil, []byte("no event"))
					}
					pass(c.takes)
				}
				l = w.start()
				if !w.outbox.settled(time.Hour) {
					t.Fatal("not settled")
				}
				l.drain()
				check(t, "letters", len(w.letters.all()), 1)
				check(t, "searches", w.letters.searched, c.searches)
			})
		})
	}
}
