package ublk

import (
	"testing"
)

// The logical block size may change while the disk is not there, if the size fits.
func TestBlockSizeOfAStoppedDevice(t *testing.T) {
	f := fakeHost(t)
	d, err := Create(t.Context(), Config{ID: 3, Geometry: Geometry{Size: 1 << 20, PhysicalBlock: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetBlockSize(t.Context(), 4096); err != nil {
		t.Fatal(err)
	}
	if got := geometryOf(&f.devs[3].params); got.LogicalBlock != 4096 || got != d.Config().Geometry {
		t.Errorf("the driver has %+v, the device %+v", got, d.Config().Geometry)
	}
	for _, block := range []int{0, 256, 600, 8192} {
		if err := d.SetBlockSize(t.Context(), block); err == nil {
			t.Errorf("blocks of %d bytes are taken", block)
		}
	}
	if err := d.Resize(t.Context(), 1<<20+512); err == nil {
		t.Error("a size within a block is taken")
	}
	if err := d.SetBlockSize(t.Context(), 512); err != nil {
		t.Fatal(err)
	}
	if err := d.Resize(t.Context(), 1<<20+512); err != nil {
		t.Fatal(err)
	}
	if err := d.SetBlockSize(t.Context(), 4096); err == nil {
		t.Error("blocks that the size is no multiple of are taken")
	}
}
