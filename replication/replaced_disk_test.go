package replication

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A disk is replaced by one that holds something else, on either role: with new metadata all of it is copied from the peer, wherever
// the metadata is. With internal metadata the new disk is not attached without.
func TestDiskReplaced(t *testing.T) {
	for _, internal := range []bool{true, false} {
		for i := range 2 {
			nodes := newNodes(t, func(r *config.Resource) {
				for i := range r.Hosts {
					meta := filepath.Join(t.TempDir(), "meta")
					if err := os.WriteFile(meta, make([]byte, 4<<20), 0o600); err != nil {
						t.Fatal(err)
					}
					if !internal {
						r.Hosts[i].Volumes[0].MetaDisk = config.MetaDisk{Device: meta, Index: -1}
					}
				}
			})
			upAndEqual(t, nodes)
			nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 64 << 10, Data: page(t, 64<<10)})
			n := nodes[i]
			n.must(engine.Detach{})
			n.await("without its disk", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
			v := &n.cfg.Local.Volumes[0]
			other := make([]byte, diskSize)
			rand.Read(other)
			if err := errors.Join(os.Remove(v.Disk), os.WriteFile(v.Disk, other, 0o600)); err != nil {
				t.Fatal(err)
			}
			if internal {
				if err := n.do(engine.Attach{}); err == nil {
					t.Error("a disk without metadata was attached")
				}
			}
			createMD(t, v)
			n.must(engine.Attach{})
			n.await("UpToDate", redundant)
			nodes[0].must(engine.Demote{})
			sameDisks(t, nodes)
		}
	}
}

// createMD waits until the daemon has closed what was detached.
func createMD(t *testing.T, v *config.Volume) {
	t.Helper()
	late := time.Now().Add(20 * time.Second)
	for {
		err := CreateMD(v, CreateOptions{Force: true})
		var busy *BusyError
		if err == nil {
			return
		}
		if !errors.As(err, &busy) || time.Now().After(late) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}
