package replication

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// Both nodes are told to become Primary while one of them is disconnected in order: never do both, in whatever order the three are taken. (By force
// they may: a Primary that leaves so does not speak of the peer's disk. That a promotion which waits is refused then is tested in the engine.)
func TestPromotionsRaceWithDisconnect(t *testing.T) {
	nodes := connectedPair(t)
	nodes[0].must(engine.Demote{})
	for round := range 8 {
		var wg sync.WaitGroup
		var errs [2]error
		for k := range nodes {
			wg.Go(func() { errs[k] = nodes[k].do(engine.Promote{}) })
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // any moment will do
		nodes[round%2].do(engine.Disconnect{})
		wg.Wait()
		if errs[0] == nil && errs[1] == nil {
			t.Fatalf("round %d: both were promoted: %v | %v", round, nodes[0].state(), nodes[1].state())
		}
		for _, n := range nodes {
			n.must(engine.Demote{})
			if n.state().Conn == statemachine.StandAlone {
				n.must(engine.Connect{})
			}
		}
		for _, n := range nodes {
			n.await("UpToDate", redundant)
		}
	}
}
