package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// The pauses grow while daemons die within a minute of their start, and are forgotten when one has lived longer.
func TestPausesGrowWhileDaemonsDieAtOnce(t *testing.T) {
	begun, last := died{at: time.Hour}, time.Duration(0)
	for n := 1; n < 20; n++ {
		quick, pause := begun.pauseAfter(begun.at + settled - 1)
		if quick != n || pause < last || n > 2 && pause == 0 {
			t.Fatalf("after %d deaths: counted %d, pause %v, before %v", n, quick, pause, last)
		}
		begun, last = died{begun.at + settled, quick}, pause
	}
	if last != settled {
		t.Errorf("the longest pause is %v", last)
	}
	if quick, pause := begun.pauseAfter(begun.at + settled); quick != 0 || pause != 0 {
		t.Errorf("after a daemon that lived for a minute: counted %d, pause %v", quick, pause)
	}
}

// A record that makes no sense costs nothing, least of all the start.
func TestRecordsOfStartsThatMakeNoSense(t *testing.T) {
	s := startRecord{t.TempDir(), "r0"}
	now, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "1", "no number", fmt.Sprint(int64(now), " -1"), fmt.Sprint(int64(now), " ", math.MaxInt), "99999999999999999999 1",
	} {
		if err := os.WriteFile(s.path(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before, ok := s.read()
		if !ok {
			continue
		}
		if quick, pause := before.pauseAfter(now); quick != 0 || pause != 0 {
			t.Errorf("%q: %d quick deaths, pause %v", text, quick, pause)
		}
	}
}

func TestAStartWaitsForWhatItsPredecessorsLeft(t *testing.T) {
	s := startRecord{filepath.Join(t.TempDir(), "run"), "r0"}
	log := slog.New(slog.DiscardHandler)
	for want := range 4 { // the fourth waits a second; clocks of the machine stand still in the bubble only for Go
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			if err := s.pause(t.Context(), log); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != startPauses[want] {
				t.Errorf("start %d waited %v, want %v", want, took, startPauses[want])
			}
		})
		if d, ok := s.read(); !ok || d.quick != want {
			t.Errorf("start %d left %+v, %v", want, d, ok)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.pause(ended, log); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause that was ended: %v", err)
	}
	if err := s.forget(); err != nil {
		t.Fatal(err)
	}
	if err := s.pause(ended, log); err != nil {
		t.Errorf("after an orderly end there is a pause: %v", err)
	}
}
