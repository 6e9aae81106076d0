package ublk

import (
	"fmt"
	"strings"

	"github.com/urbd/urbd/ublk/internal/uapi"
)

// Features are the driver's abilities, one bit each (UBLK_F_*).
type Features uint64

// The features that this package uses. Source: docs/ublk.md 1.6.
const (
	FeatureZeroCopy        = Features(uapi.FSupportZeroCopy)     // requests' pages in the ring's buffer table
	FeatureRecovery        = Features(uapi.FUserRecovery)        // the disk outlives its server
	FeatureReissue         = Features(uapi.FUserRecoveryReissue) // requests in flight are sent again to the next server
	FeatureUserCopy        = Features(uapi.FUserCopy)            // data by pread and pwrite
	FeatureFailIO          = Features(uapi.FUserRecoveryFailIO)  // the disk outlives its server and fails meanwhile
	FeatureResize          = Features(uapi.FUpdateSize)
	FeatureAutoBuf         = Features(uapi.FAutoBufReg) // pages are in the table before the request arrives
	FeatureQuiesce         = Features(uapi.FQuiesce)    // orderly hand-over to another server
	FeatureSafeStop        = Features(uapi.FSafeStop)   // stop, unless somebody has the disk open
	FeatureNoPartitionScan = Features(uapi.FNoPartitionScan)
)

// Has says that f has all of want.
func (f Features) Has(want Features) bool { return f&want == want }

// String lists the driver's names.
func (f Features) String() string {
	var names []string
	for i := range 64 {
		if f&(1<<i) == 0 {
			continue
		}
		if i < len(uapi.FeatureNames) {
			names = append(names, uapi.FeatureNames[i])
		} else {
			names = append(names, fmt.Sprintf("BIT_%d", i))
		}
	}
	return strings.Join(names, "|")
}
