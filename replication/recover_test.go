package replication

import (
	"testing"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// The first disk that a daemon attaches says how its volume was used before it.
func TestTheMetadataSaysWhoWasPrimaryWithAPeer(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.cfg.Recover = true // the store that was detached may take a moment to close
	for flags, want := range map[metadata.Flags]lastUse{
		metadata.ALClean:                            {},
		metadata.PrimaryInd:                         {alone: 1},
		metadata.PrimaryInd | metadata.ConnectedInd: {together: 1},
		metadata.Consistent | metadata.ConnectedInd: {},
		metadata.PrimaryInd | metadata.WasUpToDate:  {alone: 1},
	} {
		putFlags(t, &n.cfg.Local.Volumes[0], flags)
		n.up()
		n.wantLastUse(want)
		n.must(engine.Promote{Force: true})
		n.must(engine.Detach{Force: true})
		n.await("without a disk", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
		n.must(engine.Attach{}) // a disk that was Primary alone
		n.wantLastUse(want)
		n.down()
	}
}

func (n *node) wantLastUse(want lastUse) {
	n.t.Helper()
	st, err := n.res.Status(n.t.Context())
	if got := lastUseOf(st); err != nil || got != want {
		n.t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// One volume with the peer is enough to wait for it; one without is enough for degr-wfc-timeout.
func TestLastUseOfVolumes(t *testing.T) {
	for u, want := range map[lastUse][2]bool{{}: {}, {alone: 2}: {true, true}, {together: 1}: {}, {1, 1}: {true, false}} {
		if got := [2]bool{u.degraded(), u.without()}; got != want {
			t.Errorf("%+v: degraded, without: %v, want %v", u, got, want)
		}
	}
}
