package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// A Primary that was made to believe that the peer's disk is lost writes without it. The peer, whose disk is good, leaves that Primary when it
// hears of the generation that was begun, before it can be promoted on what is missing there; then it gets it.
func TestSecondaryThatIsTakenForDiskless(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	lie := sm.State{Role: sm.Secondary, Peer: sm.Primary, Conn: sm.Connected, Disk: sm.Diskless, PeerDisk: sm.UpToDate}
	p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdState, wire.State{Word: lie.Word()}.Append(nil)))
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	p.write(p.a, 0, filled(3, 4096))
	p.settle(5 * time.Second)
	if story := p.story(); !strings.Contains(story, "without this node's disk") {
		t.Fatalf("nobody has noticed\n%s", story)
	}
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}
