package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/scripts/vm"
)

// Stop takes the resource down on both nodes and powers them off, so that
// their disks may be read.
func (l *Lab) Stop(ctx context.Context) error {
	if err := l.Down(ctx); err != nil {
		return err
	}
	return each(l.Nodes(), func(n *vm.Node) error { return n.Shutdown(ctx) })
}

// Down takes the resource down on both nodes, one after the other.
func (l *Lab) Down(ctx context.Context) error {
	for _, n := range l.Nodes() {
		if _, err := l.Urbd(ctx, n, "down", Resource); err != nil {
			return fmt.Errorf("%w\n%s", err, l.Diagnose(n))
		}
	}
	return nil
}

// Compare compares the replicated part of both nodes' disks, byte by byte, and
// returns how many bytes are equal. The nodes must be off, or have flushed everything and write nothing.
func (l *Lab) Compare() (int64, error) {
	total := int64(0)
	for v := range l.Options.Volumes {
		n, err := l.replicated()
		if err != nil {
			return 0, err
		}
		if err := equal(l.diskPath("alpha", v), l.diskPath("beta", v), n); err != nil {
			return 0, fmt.Errorf("volume %d: %w", v, err)
		}
		total += n
	}
	return total, nil
}

// replicated is the size of a volume in bytes: what the smaller disk has room for.
func (l *Lab) replicated() (int64, error) {
	size := min(l.Options.Size, l.Options.BetaSize)
	if l.Options.External {
		return size, nil
	}
	p, err := metadata.Place(metadata.Internal, 0, size, size)
	return p.DataLimit, err
}

// DiskPath is the file behind a node's disk.
func (l *Lab) DiskPath(n *vm.Node, vol int) string { return l.diskPath(n.Name(), vol) }

func equal(a, b string, n int64) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	const chunk = 1 << 20
	ba, bb := make([]byte, chunk), make([]byte, chunk)
	for off := int64(0); off < n; off += chunk {
		part := int(min(chunk, n-off))
		if _, err := io.ReadFull(io.NewSectionReader(fa, off, int64(part)), ba[:part]); err != nil {
			return err
		}
		if _, err := io.ReadFull(io.NewSectionReader(fb, off, int64(part)), bb[:part]); err != nil {
			return err
		}
		if !bytes.Equal(ba[:part], bb[:part]) {
			i := 0
			for ba[i] == bb[i] {
				i++
			}
			return fmt.Errorf("the disks differ at byte %d", off+int64(i))
		}
	}
	return nil
}
