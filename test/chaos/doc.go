// Package chaos shows with real processes that no usage is lost and none is billed
// twice: nats-server, built from the module, syncing every write; workers; the
// simulator, in the test's process, each worker having its own address of it; and
// between them fault proxies (package faultproxy).
//
//   - Crash points: each place of package faultpoint × {exit, hang, error}. Part of
//     `go test ./...`.
//   - Chaos, outages, frozen workers and power cuts take minutes and, the last, root: they
//     are built with the tag "chaos" only. `make chaos`, `make campaign`.
//
// Invariants of the tests themselves: they listen on 127.0.0.1 on free ports; they
// end only processes that they started; what is random comes from a seed that is
// printed; a fault's moment is a count of what has happened, never a time; every
// wait has a bound, and no verdict depends on how long something took.
//
// There is no code in it but tests.
package chaos
