// Package cluster shows that a fleet on a real JetStream cluster loses no usage and bills
// none twice while servers come and go: three nats-server processes on loopback, built from
// the module, syncing every write, each stream on all three; `meterworker run` and
// `meterworker simulate` as processes; and producers that publish throughout.
//
//   - A small one is part of `go test ./...`: leader changes of everything, a server and a
//     worker killed, and what is put back from an old copy.
//   - The large one takes minutes: it is built with the tag "chaos". `make cluster`.
//   - Take-over of a killed worker's partitions, and that owners stay where nothing changes,
//     on a single server.
//
// Invariants of the tests themselves: they listen on 127.0.0.1 on free ports; they end only
// processes that they started; every wait has a bound, and no verdict depends on how long
// something took: times are measured and logged.
//
// There is no code in it but tests.
package cluster
