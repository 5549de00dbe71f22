// Package permissions tests deploy/nats: a NATS server with that very configuration, the
// binary as each of its users, and the server's own log of what it denied.
//
// What is needed is allowed: a fleet lives through everything that it meets, and the server
// denies nothing. What is not needed is not: each permission was used by somebody, and
// everything else is denied. And what is denied is told at once and clearly.
package permissions
