//go:build rig

package lab

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

// The same scenarios are short for scripts/test and long for scripts/soak, which sets these flags.
var (
	soakFactor = flag.Int("lab.times", 1, "so many times as many repetitions")
	seedFlag   = flag.Uint64("lab.seed", 0, "of the random moments; 0: from the clock")
)

// times is how often something is repeated that is done n times in scripts/test.
func times(n int) int { return n * *soakFactor }

// long reports whether this is scripts/soak.
func long() bool { return *soakFactor > 1 }

// random is what a test draws its moments from. The seed is printed; -lab.seed repeats it, as far as the guests' timing is the same.
func random(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -lab.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
