package ublk

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

func TestConfigDefaults(t *testing.T) {
	c := Config{Geometry: Geometry{Size: 1 << 20}}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if c.Queues != 1 || c.Depth != 64 || c.MaxIO != 512<<10 || c.LogicalBlock != 512 || c.PhysicalBlock != 512 || c.Mode != ModeCopy {
		t.Errorf("%+v", c)
	}
	again := c
	if err := again.complete(); err != nil || again.Geometry != c.Geometry {
		t.Errorf("completing twice changes %+v to %+v, %v", c, again, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"number", Config{ID: -2}, "out of range"},
		{"queues", Config{Queues: 5000}, "queues"},
		{"depth", Config{Depth: 4097}, "depth"},
		{"odd request", Config{MaxIO: 5000}, "multiples"},
		{"large request", Config{MaxIO: 64 << 20}, "multiples"},
		{"memory", Config{Depth: 4096, MaxIO: 1 << 20}, "buffers"},
		{"small block", Config{Geometry: Geometry{LogicalBlock: 256}}, "logical block"},
		{"large block", Config{Geometry: Geometry{LogicalBlock: 1 << 20}}, "logical block"},
		{"physical below logical", Config{Geometry: Geometry{LogicalBlock: 4096, PhysicalBlock: 512}}, "physical block"},
		{"size", Config{Geometry: Geometry{Size: 1000}}, "multiple"},
		{"negative size", Config{Geometry: Geometry{Size: -512}}, "multiple"},
		{"fua", Config{Geometry: Geometry{FUA: true}}, "volatile"},
		{"boundary", Config{Geometry: Geometry{Boundary: 1000}}, "boundary"},
		{"optimal", Config{Geometry: Geometry{OptimalIO: 1000}}, "powers of two"},
		{"discard", Config{Geometry: Geometry{MaxDiscard: 512, DiscardUnit: 4096}}, "discard"},
		{"mode", Config{Mode: 9}, "mode"},
		{"recovery", Config{Recovery: 9}, "recovery"},
	} {
		if err := c.cfg.complete(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestParamsRoundTrip(t *testing.T) {
	for _, g := range []Geometry{
		{Size: 1 << 40},
		{Size: 16 << 40, LogicalBlock: 4096, Volatile: true, FUA: true, Rotational: true},
		{Size: 1 << 20, ReadOnly: true, PhysicalBlock: 4096, MinIO: 8192, OptimalIO: 1 << 20, Boundary: 1 << 20},
		{Size: 1 << 20, MaxDiscard: 1 << 50, MaxWriteZeroes: 1 << 50, DiscardUnit: 65536},
	} {
		c := Config{Geometry: g}
		if err := c.complete(); err != nil {
			t.Fatal(err)
		}
		p := c.params()
		if got := geometryOf(&p); got != c.Geometry {
			t.Errorf("%+v became %+v", c.Geometry, got)
		}
	}
}

// A discard limit beyond 32 bits of bytes is cut, not truncated.
func TestDiscardLimit(t *testing.T) {
	c := Config{Geometry: Geometry{LogicalBlock: 4096, MaxDiscard: 1 << 50}}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if n := c.MaxDiscard; n >= 1<<32 || n < 1<<32-8192 || n%4096 != 0 {
		t.Errorf("largest discard %d", n)
	}
	if p := c.params(); int64(p.Discard.MaxSectors)<<9 != c.MaxDiscard || p.Discard.MaxSegments != 1 {
		t.Errorf("%+v", p.Discard)
	}
}

func TestModesAndFlags(t *testing.T) {
	for m := ModeCopy; m <= ModeZeroCopy; m++ {
		if m != ModeAuto && modeOf(m.features()) != m {
			t.Errorf("%v has the flags of %v", m, modeOf(m.features()))
		}
	}
	for r := RecoverNone; r <= RecoverFail; r++ {
		if recoveryOf(r.features()) != r {
			t.Errorf("%v has the flags of %v", r, recoveryOf(r.features()))
		}
	}
	if s := (FeatureZeroCopy | FeatureUserCopy | 1<<60).String(); s != "SUPPORT_ZERO_COPY|USER_COPY|BIT_60" {
		t.Error(s)
	}
	if s := fmt.Sprint(ModeAuto, RecoverReissue, StateQuiesced, OpWriteZeroes, Mode(77), Op(77)); s != "auto reissue quiesced write-zeroes Mode(77) Op(77)" {
		t.Error(s)
	}
}

// What the driver drops without a word is an error.
func TestGrantedIsCompared(t *testing.T) {
	asked := Config{Queues: 2, Depth: 64, MaxIO: 1 << 20}
	want := FeatureZeroCopy | FeatureRecovery
	ok := uapi.DevInfo{Queues: 2, Depth: 64, MaxIOBytes: 1 << 20, Flags: uint64(want | FeatureSafeStop)}
	for _, c := range []struct {
		name   string
		change func(*uapi.DevInfo)
		fails  bool
	}{
		{"as asked", func(*uapi.DevInfo) {}, false},
		{"a flag dropped", func(i *uapi.DevInfo) { i.Flags &^= uint64(FeatureZeroCopy) }, true},
		{"depth", func(i *uapi.DevInfo) { i.Depth = 32 }, true},
		{"queues", func(i *uapi.DevInfo) { i.Queues = 1 }, true},
		{"request size", func(i *uapi.DevInfo) { i.MaxIOBytes = 4096 }, true},
	} {
		info := ok
		c.change(&info)
		err := (&Device{cfg: asked}).granted(want, &info)
		if (err != nil) != c.fails || c.fails && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRecoverable(t *testing.T) {
	for _, c := range []struct {
		name  string
		info  uapi.DevInfo
		owner uint64
		ok    bool
	}{
		{"quiesced", uapi.DevInfo{Flags: uint64(FeatureRecovery), State: uapi.StateQuiesced, OwnerTag: 7}, 7, true},
		{"any owner", uapi.DevInfo{Flags: uint64(FeatureRecovery), State: uapi.StateQuiesced, OwnerTag: 7}, 0, true},
		{"other owner", uapi.DevInfo{Flags: uint64(FeatureRecovery), State: uapi.StateQuiesced, OwnerTag: 7}, 8, false},
		{"made without", uapi.DevInfo{State: uapi.StateQuiesced}, 0, false},
		{"never started", uapi.DevInfo{Flags: uint64(FeatureRecovery), State: uapi.StateDead}, 0, false},
	} {
		if err := recoverable(&c.info, c.owner); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAddErrorsSayWhatTheyMean(t *testing.T) {
	for errno, want := range map[unix.Errno]error{unix.EEXIST: ErrExist, unix.EACCES: ErrTooMany, unix.EPERM: ErrPermission, unix.EIO: unix.EIO} {
		if err := addError(errno); !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := addError(ErrNoModule); err != ErrNoModule {
		t.Error(err)
	}
}
