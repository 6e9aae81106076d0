package vm

import "fmt"

// A Kernel names one of the stock Debian kernels that the rig boots.
type Kernel string

const (
	// Linux6_12 is the long-term kernel of bookworm-backports: the oldest one tested.
	Linux6_12 Kernel = "6.12"
	// Linux7 is the newest kernel of trixie-backports, for features that older ones lack.
	Linux7 Kernel = "7"
)

// Kernels lists every kernel of the rig, oldest first.
var Kernels = []Kernel{Linux6_12, Linux7}

// ParseKernel turns a command-line word into a Kernel.
func ParseKernel(word string) (Kernel, error) {
	for _, k := range Kernels {
		if word == string(k) {
			return k, nil
		}
	}
	return "", fmt.Errorf("unknown kernel %q: the rig has 6.12 and 7", word)
}

// suite is the Debian suite whose linux-image-cloud-amd64 is this kernel.
func (k Kernel) suite() string {
	if k == Linux7 {
		return "trixie-backports"
	}
	return "bookworm-backports"
}
