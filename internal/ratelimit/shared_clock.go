package ratelimit

import "time"

const (
	// drift is how far two clocks may run apart, as a share of the time: NTP slews by
	// up to 500 ppm.
	drift = 500e-6

	// refreshEvery is how often a replica that leases looks at the server's clock.
	refreshEvery = time.Second

	// wide is an estimate that is worth another look soon: half of it may be wrong. From
	// a server far away there is no better one, so looks are lookShare of the time.
	wide      = 4 * time.Millisecond
	lookShare = 10

	// staleAfter is when an estimate is not relied on any more: 5 ms of drift.
	staleAfter = 10 * time.Second

	// slowSample is the round trip from which a sample says too little.
	slowSample = time.Second

	// jumpLeast is how far the server's clock must step to be taken to have done so: a
	// restart, another leader, a correction by hand.
	jumpLeast = 2 * time.Millisecond
)

// serverClock estimates the time of the server from the local monotonic clock. A
// write of ours that was sent at s, answered at a, and has the server's timestamp t
// tells that the difference is between t−a and t−s. The bounds of several writes are
// intersected, so that the estimate is better than half a round trip; being old widens
// them.
type serverClock struct {
	origin  time.Time     // local
	low     time.Duration // bounds of (the server's Unix time − time since origin)
	high    time.Duration
	sampled time.Time     // local; zero before the first sample
	took    time.Duration // of the last sample: from sent to answered
	epoch   string        // of the record that the last sample was taken from
}

// fresh tells whether the estimate can be relied on.
func (c *serverClock) fresh(local time.Time) bool {
	return !c.sampled.IsZero() && local.Sub(c.sampled) < staleAfter
}

// due tells whether the estimate should be refreshed.
func (c *serverClock) due(local time.Time) bool {
	age := local.Sub(c.sampled)
	return age >= refreshEvery || c.high-c.low > wide && age >= lookShare*c.took
}

// sample takes a write into account, and reports whether the server's clock has
// stepped since the last one of the same epoch.
func (c *serverClock) sample(sent, answered, stamped time.Time, epoch string) (jumped bool) {
	if answered.Sub(sent) > slowSample {
		return false
	}
	server := time.Duration(stamped.UnixNano())
	low, high := server-answered.Sub(c.origin), server-sent.Sub(c.origin)
	if c.epoch == epoch {
		wider := time.Duration(drift * float64(answered.Sub(c.sampled)))
		before, until := c.low-wider, c.high+wider
		jumped = low-until > jumpLeast || before-high > jumpLeast
		if max(low, before) <= min(high, until) {
			low, high = max(low, before), min(high, until)
		}
	}
	c.low, c.high, c.sampled, c.epoch, c.took = low, high, answered, epoch, answered.Sub(sent)
	return jumped
}

func (c *serverClock) offset() time.Duration { return c.low + (c.high-c.low)/2 }

// server is what the server's clock shows at a local time.
func (c *serverClock) server(local time.Time) time.Time {
	return time.Unix(0, int64(local.Sub(c.origin)+c.offset()))
}

// local is when the server's clock shows a time. It has a monotonic reading, so
// that a step of the local wall clock does not move it.
func (c *serverClock) local(server time.Time) time.Time {
	return c.origin.Add(time.Duration(server.UnixNano()) - c.offset())
}
