package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a adoption
		ctx := t.Context()
		if a.begin() || a.pending() || a.keep(1) || a.settle(ctx) != nil {
			t.Fatal("a device of our own is taken for an adopted one")
		}
		a.found()
		if err := a.settle(ctx); !errors.Is(err, errUsersWait) {
			t.Errorf("before it is served: %v", err)
		}
		if !a.keep(4096) || !a.begin() || a.begin() {
			t.Fatal("the users are let go twice, or not at all")
		}
		settled := make(chan error)
		go func() { settled <- a.settle(ctx) }()
		synctest.Wait()
		if size := a.end(nil); size != 4096 {
			t.Fatalf("the size wanted meanwhile is %d", size)
		}
		if !a.keep(8192) { // while the first one is being set
			t.Fatal("it is over before the last size is set")
		}
		broken := errors.New("broken")
		if size := a.end(broken); size != 0 {
			t.Fatalf("a size of %d is to be set on a device that cannot be served", size)
		}
		if err := <-settled; !errors.Is(err, broken) || !a.pending() {
			t.Errorf("after a failure: %v", err)
		}
		if !a.begin() {
			t.Fatal("it cannot be tried again")
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := a.settle(short); !errors.Is(err, context.Canceled) {
			t.Errorf("without patience: %v", err)
		}
		if size := a.end(nil); size != 8192 {
			t.Errorf("the size of the failed try is lost: %d", size)
		}
		if size := a.end(nil); size != 0 || a.pending() || a.settle(ctx) != nil || a.keep(1) {
			t.Errorf("it is not over")
		}
	})
}
