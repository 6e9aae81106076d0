package uring

import (
	"testing"
	"unsafe"
)

func TestLayouts(t *testing.T) {
	var s sqe
	var p params
	var g geteventsArg
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"sqe", unsafe.Sizeof(s), 64},
		{"sqe.off", unsafe.Offsetof(s.Off), 8},
		{"sqe.addr", unsafe.Offsetof(s.Addr), 16},
		{"sqe.len", unsafe.Offsetof(s.Len), 24},
		{"sqe.op_flags", unsafe.Offsetof(s.OpFlags), 28},
		{"sqe.user_data", unsafe.Offsetof(s.UserData), 32},
		{"sqe.buf_index", unsafe.Offsetof(s.Buf), 40},
		{"sqe.file_index", unsafe.Offsetof(s.File), 44},
		{"sqe.cmd", unsafe.Offsetof(s.Cmd), 48},
		{"cqe", unsafe.Sizeof(cqe{}), 16},
		{"params", unsafe.Sizeof(p), 120},
		{"params.features", unsafe.Offsetof(p.Features), 20},
		{"params.sq_off", unsafe.Offsetof(p.SQ), 40},
		{"params.cq_off", unsafe.Offsetof(p.CQ), 80},
		{"getevents_arg", unsafe.Sizeof(g), 24},
		{"getevents_arg.ts", unsafe.Offsetof(g.TS), 16},
		{"rsrc_register", unsafe.Sizeof(rsrcRegister{}), 32},
		{"rsrc_update2", unsafe.Sizeof(rsrcUpdate2{}), 32},
		{"rsrc_update", unsafe.Sizeof(rsrcUpdate{}), 16},
		{"probe", unsafe.Sizeof(probeHeader{}), 16 + 256*8},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, the kernel has %d", c.what, c.got, c.want)
		}
	}
}
