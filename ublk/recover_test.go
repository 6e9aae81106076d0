package ublk

import (
	"context"
	"testing"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// A server that has died just after it had recovered a device leaves it to the next one, also where the kernel does not begin that twice.
func TestRecoveryThatHasBegun(t *testing.T) {
	f := fakeHost(t)
	f.add(uapi.DevInfo{DevID: 2, Queues: 1, Depth: 8, MaxIOBytes: 64 << 10, State: uapi.StateQuiesced, Flags: uint64(FeatureRecovery) | uapi.FUserCopy})
	cfg := Config{Geometry: Geometry{Size: 1 << 20}}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	f.devs[2].params = cfg.params()
	begun, refused := 0, 2
	f.before = func(_ context.Context, op uint32) error {
		if op != uapi.CmdStartUserRecovery {
			return nil
		}
		if begun++; begun <= refused { // the old server's file is open still
			return unix.EBUSY
		}
		return unix.EINVAL
	}
	d, err := Recover(t.Context(), 2, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if d.getPhase() != phaseRecover || begun != refused+1 {
		t.Errorf("it is %v after %d tries", d.getPhase(), begun)
	}
	if err := d.closeChar(); err != nil {
		t.Error(err)
	}
}
