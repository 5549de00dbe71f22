//go:build !faultpoints

package faultpoint

// Enabled tells whether this is a test build.
const Enabled = false

// At does nothing and succeeds.
func At(Point) error { return nil }

// Seeded is false.
func Seeded(Bug) bool { return false }
