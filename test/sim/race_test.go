//go:build race

package sim

// defaultSeeds is fewer under the race detector, which takes ten times as long.
const defaultSeeds = 500
