// Package embedded runs a NATS server with JetStream inside this process, for
// installations that have no NATS of their own.
//
// Invariants:
//
//   - Every write reaches the disk before it is acknowledged (SyncAlways). The
//     server's default syncs every two minutes, and a power cut inside them
//     loses usage that a producer was told would be billed.
//   - One process per store folder. nats-server itself takes no lock, and two
//     servers on one folder lose each other's acknowledged messages, so a file
//     lock is held from before the server opens the store until after it has
//     closed it. The kernel releases it when the process dies, however it dies.
//   - The process is never ended from in here: what nats-server calls fatal
//     comes back as an error, and the signals stay with the program.
//
// A Server has two states, started and closed. Start returns only servers that
// accept connections and whose JetStream answers; Close is final.
package embedded
