package replication

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// discards is how a store gives space back so that the range reads zeroes afterwards. The zero value: it does not, and the
// range is zeroed in place.
type discards struct {
	unit  int   // bytes, the granularity that users of the device are told; 0: they are not offered discards
	chunk int64 // bytes; of a thin volume: whole chunks are discarded, the rest is written. 0: the device or file zeroes by itself

	warning string // what the administrator has to know; empty: nothing
}

// largestChunk is what a discard can hold at least one of, in bytes: see engine.Request.
const largestChunk = 64 << 20

// fileDiscards are those of a file with holes.
var fileDiscards = discards{unit: 4096}

// findDiscards looks what a store can do. A block device that can zero by unmapping is asked to; of those that cannot, only a
// thin volume is known to read zeroes where whole chunks have been discarded, and it is taken at its word with ifAligned, which
// is discard-zeroes-if-aligned. Others may answer with old data, each node with its own.
func findDiscards(s *store, ifAligned bool) discards {
	if !s.device {
		return fileDiscards
	}
	var st unix.Stat_t
	if unix.Fstat(s.fd, &st) != nil {
		return discards{}
	}
	unit := fileDiscards.unit
	if own := queueLimit(st.Rdev, "discard_granularity"); own > 0 && own <= largestChunk && own%int64(unit) == 0 {
		unit = int(own)
	}
	thin, isThin := mapper(dmTable).thinBelow(st.Rdev)
	_, old := machine{"/"}.olderThan(6, 12) // io_uring does not discard there
	switch {
	case isThin && thin.skipsZeroing:
		return discards{warning: "its thin pool does not zero new chunks (skip_block_zeroing): discards free no space, and what was " +
			"never written reads differently on the two nodes; to change that: lvchange --zero y POOL"}
	case queueLimit(st.Rdev, "discard_max_bytes") == 0:
		return discards{}
	case queueLimit(st.Rdev, "write_zeroes_max_bytes") > 0:
		return discards{unit: unit}
	case !isThin || !ifAligned || thin.origin || thin.ragged || old || thin.chunk > largestChunk || thin.chunk%int64(s.block) != 0:
		return discards{}
	}
	return discards{unit: int(thin.chunk), chunk: thin.chunk}
}

// queueLimit is a limit of a block device's queue, 0 if sysfs does not tell it.
func queueLimit(dev uint64, name string) int64 {
	dir := sysBlock(dev)
	for _, queue := range []string{"queue", "../queue"} { // a partition has its disk's
		b, err := os.ReadFile(filepath.Join(dir, queue, name))
		if err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			return n
		}
	}
	return 0
}
