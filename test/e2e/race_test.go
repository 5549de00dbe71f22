//go:build race

package e2e

// raceFlag builds the binary under test like the tests themselves.
var raceFlag = []string{"-race"}
