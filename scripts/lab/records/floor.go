package records

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Run is a span of a worker's writes that were made one after the other: First to Last.
type Run struct {
	Worker      int
	First, Last uint64
}

// A Floor says for every block which write it holds at least. The zero value knows nothing.
type Floor map[int64]uint64

// Raise takes note of writes that must be there.
func (f Floor) Raise(p Plan, r Run) {
	for w := r.First; w <= r.Last; w++ {
		if at := p.Block(r.Worker, w); f[at] < w {
			f[at] = w
		}
	}
}

// PieceSize is how many bytes [Floor.Check] reads at a time, at most.
const PieceSize = 64 * BlockSize

// Check reads the area and reports the first sectors that are older than they may be, or no record.
func (f Floor) Check(p Plan, area io.ReaderAt) error {
	var faults []string
	buf := make([]byte, PieceSize)
	for off := int64(0); off < p.Blocks*BlockSize; off += PieceSize {
		piece := buf[:min(PieceSize, p.Blocks*BlockSize-off)]
		if _, err := area.ReadAt(piece, off); err != nil {
			return fmt.Errorf("at block %d: %w", off/BlockSize, err)
		}
		for i := 0; i < len(piece); i += SectorSize {
			block, index := (off+int64(i))/BlockSize, i%BlockSize/SectorSize
			write, err := p.read(piece[i:i+SectorSize], block, index)
			if err == nil && write < f[block] {
				err = fmt.Errorf("holds write %d, and write %d had been confirmed", write, f[block])
			}
			if err != nil {
				faults = append(faults, fmt.Sprintf("block %d, sector %d %v", block, index, err))
			}
			if len(faults) == 5 {
				return fmt.Errorf("%s, and perhaps more", strings.Join(faults, "; "))
			}
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s", strings.Join(faults, "; "))
	}
	return nil
}

// A Progress is what a worker tells: everything up to Answered was answered, everything up to Synced before a FLUSH that was.
type Progress struct{ Answered, Synced uint64 }

// Line is what the worker prints, for [ParseProgress].
func (p Progress) Line(worker int) string {
	return fmt.Sprintf("worker %d %d %d\n", worker, p.Answered, p.Synced)
}

// ParseProgress reads a line that a worker has told.
func ParseProgress(line string) (worker int, p Progress, err error) {
	words := strings.Fields(line)
	if len(words) != 4 || words[0] != "worker" {
		return 0, p, fmt.Errorf("%q is no worker's line", line)
	}
	var n [3]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(words[i+1], 10, 64); err != nil {
			return 0, p, fmt.Errorf("%q is no worker's line: %w", line, err)
		}
	}
	return int(n[0]), Progress{n[1], n[2]}, nil
}
