package replication

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A backing store whose metadata is elsewhere is cut short, and has its size again when it is attached: a hole is no data.
func TestDiskCutShort(t *testing.T) {
	for i := range 2 {
		nodes := newNodes(t, func(r *config.Resource) {
			for i := range r.Hosts {
				meta := filepath.Join(t.TempDir(), "meta")
				if err := os.WriteFile(meta, make([]byte, 4<<20), 0o600); err != nil {
					t.Fatal(err)
				}
				r.Hosts[i].Volumes[0].MetaDisk = config.MetaDisk{Device: meta, Index: -1}
			}
		})
		upAndEqual(t, nodes)
		for off := int64(0); off < 12<<20; off += 64 << 10 {
			nodes[0].io(engine.Request{Op: engine.OpWrite, Off: off, Len: 64 << 10, Data: page(t, 64<<10)})
		}
		n := nodes[i]
		nodes[0].must(engine.Demote{})
		n.down() // the next one's activity log is empty
		n.up()
		n.await("UpToDate", redundant)
		n.must(engine.Promote{})
		disk := n.cfg.Local.Volumes[0].Disk
		read := engine.Request{Op: engine.OpRead, Off: 2 << 20, Len: 8192, Data: page(t, 8192)}
		cut(t, disk, read.Off)
		n.io(read)
		n.await("without its disk", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
		cut(t, disk, diskSize)
		n.must(engine.Attach{})
		n.await("UpToDate", redundant)
		n.must(engine.Demote{})
		sameDisks(t, nodes)
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}
