package engine

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/urbd/urbd/replication/wire"
)

// greeting is what a peer with fresh metadata sends first; state ends it.
func greeting(size int64, uuid uint64, bits uint64, state uint32) []byte {
	var b []byte
	add := func(cmd wire.Cmd, body []byte) {
		b = wire.AppendHeader100(b, wire.Header{Cmd: cmd, Length: uint32(len(body))})
		b = append(b, body...)
	}
	add(wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
	add(wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil))
	add(wire.CmdSizes, wire.Sizes{DSize: wire.SectorOf(size), CSize: wire.SectorOf(size), MaxBioSize: wire.MaxRequest}.Append(nil))
	add(wire.CmdUUIDs, wire.UUIDs{Current: uuid, Size: bits}.Append(nil))
	add(wire.CmdState, wire.State{Word: state}.Append(nil))
	return b
}

// FuzzReceive feeds arbitrary bytes to a node, on either socket, before and after a
// handshake: it never panics, never takes more memory than it was given, and never writes
// outside of the data area (invariant I8).
func FuzzReceive(f *testing.F) {
	const size = 1 << 20
	data := func(cmd wire.Cmd, fixed []byte, payload int) []byte {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(fixed) + payload)})
		return append(append(b, fixed...), make([]byte, payload)...)
	}
	f.Add(byte(0), greeting(1007616, 4, 246, 0x4082))
	f.Add(byte(1), data(wire.CmdData, wire.BlockData{Sector: 8, BlockID: 1, Flags: wire.DPSendWriteAck}.Append(nil), 4096))
	f.Add(byte(1), data(wire.CmdRSDataReply, wire.BlockData{Sector: 0, BlockID: wire.IDSyncer}.Append(nil), 4096))
	f.Add(byte(1), data(wire.CmdTrim, wire.TrimBlock{BlockData: wire.BlockData{Sector: 0}, Size: 1 << 16}.Append(nil), 0))
	f.Add(byte(1), data(wire.CmdDataRequest, wire.BlockReq{Sector: 0, Size: 4096}.Append(nil), 0))
	f.Add(byte(1), data(wire.CmdBarrier, wire.Barrier{Number: 1}.Append(nil), 0))
	f.Add(byte(1), data(wire.CmdBitmap, nil, 0))
	f.Add(byte(1), data(wire.CmdOutOfSync, wire.BlockDesc{Sector: 0, Size: 4096}.Append(nil), 0))
	f.Add(byte(3), data(wire.CmdWriteAck, wire.BlockAck{Sector: 8, BlockID: 1, Size: 4096}.Append(nil), 0))
	f.Add(byte(3), data(wire.CmdPing, nil, 0))
	f.Add(byte(5), data(wire.CmdStateChgReq, wire.StateChgReq{Mask: 3, Val: 1}.Append(nil), 0))
	f.Add(byte(5), data(wire.CmdSyncUUID, wire.SyncUUID{UUID: 42}.Append(nil), 0))

	// mode: bit 0: after a handshake; bit 1: on meta; bit 2: as the Target of a resync
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		p := newPair(t, size, NetOptions{})
		n := p.a
		for _, c := range []Command{Attach{BackingSize: size, MetaSize: size}, Connect{}} {
			n.id++
			n.e.Command(0, n.id, c)
			for p.work(n) {
			}
		}
		n.e.ConnUp(0, Link{Features: Features})
		n.conn = "up"
		usable := n.e.Status().Volumes[0].Size
		if mode&1 != 0 {
			state, uuid := uint32(0x4082), uint64(4) // WFConnection, Inconsistent
			if mode&4 != 0 {
				state, uuid = 0x10082, 0x1234567812345678 // UpToDate: this node is copied to
			}
			n.wire[DataSock] = greeting(usable, uuid, 0, state)
			for p.work(n) {
			}
		}
		meta := bytes.Clone(n.disk[usable:])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n.wire[mode>>1&1] = input
		for i := 0; i < 10000 && p.work(n); i++ {
		}
		n.e.Tick(p.now + 1)
		p.work(n)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20+uint64(len(input))*1000 {
			t.Errorf("%d bytes of input made it allocate %d bytes", len(input), grown)
		}
		if sb := n.disk[len(n.disk)-4096:]; !bytes.Equal(sb[56+4:60+4], meta[len(meta)-4096+60:][:4]) {
			t.Error("the superblock lost its magic")
		}
	})
}
