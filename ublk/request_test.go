package ublk

import (
	"bytes"
	"testing"

	"github.com/urbd/urbd/ublk/internal/uapi"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		desc uapi.IODesc
		op   Op
		fl   Flags
		off  int64
		n    int64
	}{
		{"read", uapi.IODesc{OpFlags: 0, Sectors: 8, StartSector: 16}, OpRead, 0, 8192, 4096},
		{"write with FUA", uapi.IODesc{OpFlags: 1 | 1<<13, Sectors: 1, StartSector: 1<<35 - 1}, OpWrite, FUA, (1<<35 - 1) << 9, 512},
		{"flush", uapi.IODesc{OpFlags: 2, Sectors: 77, StartSector: 77}, OpFlush, 0, 0, 0},
		{"large discard", uapi.IODesc{OpFlags: 3, Sectors: 1<<23 - 1, StartSector: 0}, OpDiscard, 0, 0, (1<<23 - 1) << 9},
		{"write-zeroes that stay allocated", uapi.IODesc{OpFlags: 5 | 1<<15, Sectors: 2}, OpWriteZeroes, NoUnmap, 0, 1024},
		{"metadata to swap", uapi.IODesc{OpFlags: 1 | 1<<11 | 1<<16, Sectors: 8}, OpWrite, Meta | Swap, 0, 4096},
		{"flags of no interest", uapi.IODesc{OpFlags: 0 | 1<<8 | 1<<9 | 1<<10, Sectors: 8}, OpRead, 0, 0, 4096},
	} {
		r := Request{Flags: Swap, Off: 5, Len: 5} // what the tag's last request left
		r.decode(&c.desc)
		if r.Op != c.op || r.Flags != c.fl || r.Off != c.off || r.Len != c.n {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestCopyOfFakeRequests(t *testing.T) {
	data := []byte("0123456789")
	w := FakeRequest(OpWrite, 0, 0, data, 10, func(error) {})
	got := make([]byte, 4)
	if err := w.CopyOut(got, 3); err != nil || string(got) != "3456" {
		t.Errorf("%q %v", got, err)
	}
	r := FakeRequest(OpRead, 0, 0, bytes.Clone(data), 10, func(error) {})
	if err := r.CopyIn([]byte("xy"), 8); err != nil || string(r.Bytes()) != "01234567xy" {
		t.Errorf("%q %v", r.Bytes(), err)
	}
	for name, f := range map[string]func(){
		"out of a read":   func() { r.CopyOut(got, 0) },
		"into a write":    func() { w.CopyIn(got, 0) },
		"behind the end":  func() { w.CopyOut(got, 7) },
		"before the data": func() { w.CopyOut(got, -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a copy %s is no bug", name)
				}
			}()
			f()
		}()
	}
}
