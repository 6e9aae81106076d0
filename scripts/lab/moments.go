package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/scripts/vm/writelog"
)

// Moments is what was done to a node's disk, write by write, to be asked what a power cut at any moment would have left of it.
type Moments struct {
	replay *writelog.Replay
	layout metadata.Layout
	hot    []uint32 // extents that the durable activity log has named since the last FLUSH; nil: to be read
	Marks  []string // those that have passed
}

// extentSize is what one extent of the activity log covers, in bytes.
const extentSize = 4 << 20

// NewMoments begins with an empty disk of so many bytes, with internal metadata.
func NewMoments(log *writelog.Log, size int64) (*Moments, error) {
	layout, err := metadata.Place(metadata.Internal, 0, size, size)
	return &Moments{replay: log.Replay(size), layout: layout}, err
}

// Step goes on by one entry. It returns an error if the entry is data that a Primary has written to a place that its activity log
// did not name, durably, before.
func (m *Moments) Step() (ok bool, err error) {
	e, ok, err := m.replay.Step()
	switch {
	case err != nil || !ok:
		return false, err
	case e.Is(writelog.Mark):
		m.Marks = append(m.Marks, e.Name)
	case e.Is(writelog.Flush):
		m.hot = nil
	case e.Is(writelog.FUA) && m.hot != nil:
		// The target notes a write with FUA before those that were completed earlier and are not flushed: what it evicts was hot for them.
		m.readHot()
	}
	if !e.Is(writelog.Mark|writelog.Discard) && e.Len > 0 && e.Off < m.layout.DataLimit {
		err = m.covered(e)
	}
	return true, err
}

// covered wants the extents of a write in the activity log.
func (m *Moments) covered(e writelog.Entry) error {
	sb, err := m.superblock(m.replay.Durable())
	if err != nil || !sb.Flags.Has(metadata.PrimaryInd) {
		return nil // there is none yet; or nobody writes here but the peer, who has it in its own
	}
	if m.hot == nil {
		m.readHot()
	}
	for extent := e.Off / extentSize; extent <= (e.Off+e.Len-1)/extentSize; extent++ {
		if !slices.Contains(m.hot, uint32(extent)) {
			return fmt.Errorf("%d bytes were written at %d, and extent %d was not in the durable activity log, only %v", e.Len, e.Off, extent, m.hot)
		}
	}
	return nil
}

// readHot adds what the durable log names now.
func (m *Moments) readHot() {
	if m.hot == nil {
		m.hot = []uint32{}
	}
	if hot, _, verdict := m.ring(m.replay.Durable()); verdict == metadata.Replayed {
		m.hot = append(m.hot, hot...)
	}
}

func (m *Moments) superblock(disk []byte) (metadata.Superblock, error) {
	return metadata.DecodeSuperblock(disk[m.layout.Superblock:])
}

func (m *Moments) ring(disk []byte) (hot []uint32, next uint32, verdict metadata.Verdict) {
	return metadata.Replay(disk[m.layout.AL:][:int64(m.layout.ALBlocks())*metadata.BlockSize], m.layout.Stripes)
}

// CheckMetadata reads what a disk says about itself as urbd does when it attaches it, and returns it.
func (m *Moments) CheckMetadata(disk []byte) (metadata.Superblock, error) {
	sb, err := m.superblock(disk)
	if err != nil {
		return sb, err
	}
	if err := sb.Check(m.layout); err != nil {
		return sb, err
	}
	if sb.NeedsReplay() && sb.Flags.Has(metadata.PrimaryInd) {
		if _, _, verdict := m.ring(disk); !verdict.Trusted() {
			return sb, fmt.Errorf("the activity log is %v", verdict)
		}
	}
	return sb, nil
}

// A Tools runs a program on this machine, like e2fsck.
type Tools func(ctx context.Context, name string, args ...string) (*exec.Cmd, error)

// CheckExt4 looks at the ext4 on a disk as a boot after a power cut does: the journal is replayed, and then nothing is wrong. It returns the
// files of one of its directories.
func (m *Moments) CheckExt4(ctx context.Context, tools Tools, disk []byte, dir string) (map[string][]byte, error) {
	scratch, err := os.MkdirTemp("", "urbd-moment-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	image := filepath.Join(scratch, "image")
	if err := writeSparse(image, disk[:m.layout.DataLimit]); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(scratch, "out"), 0o700); err != nil {
		return nil, err
	}
	for _, argv := range [][]string{
		{"e2fsck", "-E", "journal_only", "-y", image},
		{"e2fsck", "-f", "-n", image},
		{"debugfs", "-R", "rdump " + dir + " " + filepath.Join(scratch, "out"), image},
	} {
		cmd, err := tools(ctx, argv[0], argv[1:]...)
		if err != nil {
			return nil, err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(out))
		}
	}
	files := map[string][]byte{}
	paths, err := filepath.Glob(filepath.Join(scratch, "out", dir, "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// writeSparse leaves holes where there are zeroes.
func writeSparse(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const chunk = 64 << 10
	zeroes := make([]byte, chunk)
	for off := 0; off < len(data); off += chunk {
		part := data[off:min(off+chunk, len(data))]
		if bytes.Equal(part, zeroes[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(data)))
}
