// Package e2e holds the tests of the whole: the built binary as its own process,
// against a real nats-server and the simulator, judged by the simulator's books
// and by the streams. There is no code in it but tests.
package e2e
