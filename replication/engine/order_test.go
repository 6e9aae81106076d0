package engine

import "testing"

// An order for a volume that does not exist is refused, and touches no other.
func TestOrderUnknownVolume(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	for _, c := range []Command{
		Attach{Vol: 7}, Detach{Vol: 7}, Detach{Vol: 7, Force: true}, Invalidate{Vol: 7}, InvalidateRemote{Vol: 7},
		PauseSync{Vol: 7, On: true}, NewCurrentUUID{Vol: 7},
	} {
		if err := p.do(p.a, c); err == nil {
			t.Errorf("%T of a volume that does not exist was carried out", c)
		}
	}
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
}
