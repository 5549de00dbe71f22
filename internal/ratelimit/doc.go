// Package ratelimit keeps the worker inside Stripe's two limits: requests a
// second for the account ([Bucket]), and one call at a time for each customer and
// meter ([Lanes]).
//
// Invariants:
//
//   - One permit is one HTTP request. Permits are granted in order by one
//     goroutine, paced through x/time/rate, to whoever is about to send: a limiter that
//     many goroutines wait on lets three times its burst through.
//   - Every permit has a time of its own, on a schedule that all replicas share
//     ([Shared]), and is gone a burst's time after it. So in any second at most rate ×
//     Margin + burst permits are granted by all of them together, also after an idle
//     spell, and after a frozen process woke up: permits are never saved up.
//   - A lease is spent only when the server has confirmed it. A replica that crashes, is
//     cut off or loses an answer loses permits; nobody gains any. Without NATS nothing is
//     granted.
//   - Where nobody can know what is leased (the key is lost, the server's clock has
//     stepped) nothing is leased until all that could be has expired.
//   - A retry takes a new permit.
//   - A lane has at most one piece of work running. Work that finds its lane full
//     is refused at once, so that a hot customer never holds up a cold one.
//   - At most five permits are granted and not yet spent; one that is not spent within
//     18 ms of its time is gone, and its holder takes a new one.
//
// The rate is in one of three states, for all replicas alike: full, stepped down after
// rate refusals (a trickle cuts a little, a storm halves; it recovers, slowly near the rate
// that was refused), and paused for a Retry-After.
package ratelimit
