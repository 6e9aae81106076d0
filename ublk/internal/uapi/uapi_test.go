package uapi

import (
	"testing"
	"unsafe"
)

func TestLayouts(t *testing.T) {
	var c CtrlCmd
	var i DevInfo
	var p Params
	var b Basic
	var d Discard
	var e IODesc
	var o IOCmd
	for _, l := range []struct {
		what      string
		got, want uintptr
	}{
		{"ctrl_cmd", unsafe.Sizeof(c), 32},
		{"ctrl_cmd.queue_id", unsafe.Offsetof(c.QueueID), 4},
		{"ctrl_cmd.len", unsafe.Offsetof(c.Len), 6},
		{"ctrl_cmd.addr", unsafe.Offsetof(c.Addr), 8},
		{"ctrl_cmd.data", unsafe.Offsetof(c.Data), 16},
		{"ctrl_cmd.dev_path_len", unsafe.Offsetof(c.DevPathLen), 24},
		{"dev_info", unsafe.Sizeof(i), 64},
		{"dev_info.queue_depth", unsafe.Offsetof(i.Depth), 2},
		{"dev_info.state", unsafe.Offsetof(i.State), 4},
		{"dev_info.io_desc_size", unsafe.Offsetof(i.DescSize), 6},
		{"dev_info.max_io_buf_bytes", unsafe.Offsetof(i.MaxIOBytes), 8},
		{"dev_info.dev_id", unsafe.Offsetof(i.DevID), 12},
		{"dev_info.ublksrv_pid", unsafe.Offsetof(i.PID), 16},
		{"dev_info.flags", unsafe.Offsetof(i.Flags), 24},
		{"dev_info.ublksrv_flags", unsafe.Offsetof(i.OwnerTag), 32},
		{"dev_info.owner_uid", unsafe.Offsetof(i.OwnerUID), 40},
		{"dev_info.owner_gid", unsafe.Offsetof(i.OwnerGID), 44},
		{"params", unsafe.Sizeof(p), 152},
		{"params.types", unsafe.Offsetof(p.Types), 4},
		{"params.basic", unsafe.Offsetof(p.Basic), 8},
		{"params.discard", unsafe.Offsetof(p.Discard), 40},
		{"params.devt", unsafe.Offsetof(p.Devt), 60},
		{"params.zoned", unsafe.Offsetof(p.Zoned), 76},
		{"params.dma", unsafe.Offsetof(p.DMAAlign), 108},
		{"params.seg", unsafe.Offsetof(p.Segment), 120},
		{"params.integrity", unsafe.Offsetof(p.Integrity), 136},
		{"basic", unsafe.Sizeof(b), 32},
		{"basic.logical_bs_shift", unsafe.Offsetof(b.LogicalShift), 4},
		{"basic.physical_bs_shift", unsafe.Offsetof(b.PhysicalShift), 5},
		{"basic.io_opt_shift", unsafe.Offsetof(b.IOOptShift), 6},
		{"basic.io_min_shift", unsafe.Offsetof(b.IOMinShift), 7},
		{"basic.max_sectors", unsafe.Offsetof(b.MaxSectors), 8},
		{"basic.chunk_sectors", unsafe.Offsetof(b.ChunkSectors), 12},
		{"basic.dev_sectors", unsafe.Offsetof(b.DevSectors), 16},
		{"basic.virt_boundary_mask", unsafe.Offsetof(b.VirtBoundary), 24},
		{"discard", unsafe.Sizeof(d), 20},
		{"discard.granularity", unsafe.Offsetof(d.Granularity), 4},
		{"discard.max_discard_sectors", unsafe.Offsetof(d.MaxSectors), 8},
		{"discard.max_write_zeroes", unsafe.Offsetof(d.MaxWriteZeroesSector), 12},
		{"discard.max_segments", unsafe.Offsetof(d.MaxSegments), 16},
		{"devt", unsafe.Sizeof(Devt{}), 16},
		{"io_desc", unsafe.Sizeof(e), 24},
		{"io_desc.nr_sectors", unsafe.Offsetof(e.Sectors), 4},
		{"io_desc.start_sector", unsafe.Offsetof(e.StartSector), 8},
		{"io_desc.addr", unsafe.Offsetof(e.Addr), 16},
		{"io_cmd", unsafe.Sizeof(o), 16},
		{"io_cmd.tag", unsafe.Offsetof(o.Tag), 2},
		{"io_cmd.result", unsafe.Offsetof(o.Result), 4},
		{"io_cmd.addr", unsafe.Offsetof(o.Addr), 8},
	} {
		if l.got != l.want {
			t.Errorf("%s: %d, the kernel has %d", l.what, l.got, l.want)
		}
	}
}

func TestCommandNumbers(t *testing.T) {
	for _, c := range []struct{ got, want uint32 }{
		{CmdGetQueueAffinity, 0x80207501}, {CmdGetDevInfo, 0x80207502}, {CmdAddDev, 0xc0207504},
		{CmdDelDev, 0xc0207505}, {CmdStartDev, 0xc0207506}, {CmdStopDev, 0xc0207507},
		{CmdSetParams, 0xc0207508}, {CmdGetParams, 0x80207509}, {CmdStartUserRecovery, 0xc0207510},
		{CmdEndUserRecovery, 0xc0207511}, {CmdGetDevInfo2, 0x80207512}, {CmdGetFeatures, 0x80207513},
		{CmdDelDevAsync, 0x80207514}, {CmdUpdateSize, 0xc0207515}, {CmdQuiesceDev, 0xc0207516},
		{CmdTryStopDev, 0xc0207517},
		{IOFetch, 0xc0107520}, {IOCommitAndFetch, 0xc0107521},
		{IORegisterBuf, 0xc0107523}, {IOUnregisterBuf, 0xc0107524},
	} {
		if c.got != c.want {
			t.Errorf("command %#x, the kernel has %#x", c.got, c.want)
		}
	}
}

func TestPositions(t *testing.T) {
	for _, c := range []struct{ got, want int64 }{
		{DescOffset(0, 4096), 0},
		{DescOffset(1, 4096), 98304},
		{DescOffset(3, 4096), 3 * 98304},
		{DescOffset(1, 65536), 131072},
		{DescLength(1, 4096), 4096},
		{DescLength(128, 4096), 4096},
		{DescLength(171, 4096), 8192},
		{DescLength(4096, 4096), 98304},
		{DescLength(1, 65536), 65536},
		{DataOffset(0, 0), 0x80000000},
		{DataOffset(0, 1), 0x80000000 + MaxUserCopy},
		{DataOffset(2, 3), 0x80000000 + 2<<41 + 3<<25},
	} {
		if c.got != c.want {
			t.Errorf("position %#x, the kernel has %#x", c.got, c.want)
		}
	}
}

// The packed words are the bytes of the structure.
func TestPackedWords(t *testing.T) {
	c := IOCmd{Queue: 0x1234, Tag: 0xabcd, Result: -5, Addr: 0xfedcba9876543210}
	if got, want := c.Words(), *(*[2]uint64)(unsafe.Pointer(&c)); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if AutoBuf(0x1234) != 0x11234 {
		t.Errorf("%#x", AutoBuf(0x1234))
	}
}
