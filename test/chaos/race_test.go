//go:build race

package chaos

// raceFlag builds the workers like the tests themselves.
var raceFlag = []string{"-race"}
