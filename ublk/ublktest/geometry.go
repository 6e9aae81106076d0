package ublktest

import (
	"testing"

	"github.com/urbd/urbd/ublk"

	"golang.org/x/sys/unix"
)

const (
	blkPBSZGet  = 0x127b
	blkIOMin    = 0x1278
	blkIOOpt    = 0x1279
	blkDiscard  = 0x1277
	blkZeroOut  = 0x127f
	mib         = 1 << 20
	bigDiscard  = 3 << 30 // does not fit a signed 32-bit count
	hugeSize    = 8 << 30
	pageOfTests = 4096
)

// geometry checks that the block layer knows what the configuration says.
func geometry(t *testing.T, b *bench) {
	for _, g := range []ublk.Geometry{
		{},
		{LogicalBlock: 4096},
		{PhysicalBlock: 4096, OptimalIO: 64 << 10, Rotational: true, MaxDiscard: 4 * mib, MaxWriteZeroes: mib, DiscardUnit: 4096},
		{Volatile: true, Boundary: 128 << 10, MaxDiscard: mib},
		{Volatile: true, FUA: true, MaxWriteZeroes: 2 * mib},
		{ReadOnly: true},
	} {
		t.Run("", func(t *testing.T) {
			b := &bench{t: t, subject: b.subject, mode: b.mode}
			d := b.start(ublk.Config{Geometry: g, MaxIO: 256 << 10})
			checkGeometry(t, d)
		})
	}
}

func checkGeometry(t *testing.T, d *device) {
	g := d.Config().Geometry
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	k := &disk{t: t, fd: fd, name: d.Path()[len("/dev/"):]}
	number := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %d instead of %d", what, got, want)
		}
	}
	number("size", k.intIoctl(unix.BLKGETSIZE64), g.Size)
	number("logical block", k.intIoctl(unix.BLKSSZGET), int64(g.LogicalBlock))
	number("physical block", k.intIoctl(blkPBSZGet), int64(g.PhysicalBlock))
	number("minimum I/O", k.intIoctl(blkIOMin), int64(g.MinIO))
	number("optimal I/O", k.intIoctl(blkIOOpt), int64(g.OptimalIO))
	word := func(knob, want string) {
		t.Helper()
		if got := k.knob(knob); got != want {
			t.Errorf("%s is %s instead of %s", knob, got, want)
		}
	}
	word("max_hw_sectors_kb", "256")
	word("chunk_sectors", itoa(int64(g.Boundary)>>9))
	word("discard_max_hw_bytes", itoa(g.MaxDiscard))
	word("write_zeroes_max_bytes", itoa(g.MaxWriteZeroes))
	word("rotational", choose(g.Rotational, "1", "0"))
	word("write_cache", choose(g.Volatile, "write back", "write through"))
	word("fua", choose(g.FUA, "1", "0"))
	if g.MaxDiscard > 0 {
		word("discard_granularity", itoa(int64(g.DiscardUnit)))
	}
	ro, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err != nil || ro != 0 != g.ReadOnly {
		t.Errorf("read-only is %d, %v", ro, err)
	}
}

// readOnly checks that nothing is written to a read-only disk.
func readOnly(t *testing.T, b *bench) {
	d := b.start(ublk.Config{Geometry: ublk.Geometry{ReadOnly: true}})
	if fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	} else {
		defer unix.Close(fd)
		p := make([]byte, 2*pageOfTests)
		if _, err := unix.Pwrite(fd, p[:512], 0); err == nil {
			t.Error("a read-only disk takes a write")
		}
	}
}
