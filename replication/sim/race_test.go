//go:build race

package sim

// The race detector has nothing to find in one thread, and makes it ten times slower.
func init() { defaultSeeds = 25 }
