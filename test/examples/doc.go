// Package examples runs the producers under examples/ and the commands of
// docs/publishing.md as a user would, with the built worker behind them, and judges by
// what the simulator was sent and by the streams.
//
// Invariants of the tests themselves: programs run in a copy of the sources, so that the
// tree stays clean; servers listen on 127.0.0.1 on free ports; every wait has a bound. A
// missing node, npm, python3 or bash fails, with what to install.
//
// There is no code in it but tests.
package examples
