//go:build !race

package sim

// defaultSeeds is what every run of the tests plays; `make sim` plays 10,000.
const defaultSeeds = 1500
