// Package enginetest is what the peer of FuzzConversation says: a script of bytes, as a fuzzer makes them, becomes packets. An engine hears them
// in the tests of that package, and a daemon over its sockets in those of replication.
package enginetest

import (
	"slices"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// A Script is read byte by byte; beyond its end it is zeroes.
type Script []byte

// Byte is the next byte.
func (s *Script) Byte() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// Bytes are the next n bytes, or as many as there are.
func (s *Script) Bytes(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

// Node is what a peer may know of the node that it speaks to.
type Node struct {
	State sm.State
	UUIDs sm.UUIDs
	Size  int64 // of the device, in bytes
}

// A Packet has a head of its own; Payload bytes follow Body.
type Packet struct {
	Cmd     wire.Cmd
	Body    []byte
	Payload int
}

// Meta reports whether it belongs on the meta socket.
func (p Packet) Meta() bool { return p.Cmd.Socket() == wire.MetaSock }

// UUID is one of those that mean something to a node, or any.
func (s *Script) UUID(of sm.UUIDs) uint64 {
	b := s.Byte()
	return [...]uint64{0, sm.JustCreated, of.Current, of.Current | sm.RoleBit, of.Bitmap, of.History[0], of.Current + 256, uint64(b) << 8}[b%8]
}

// Place is a sector and a length on the device, more or less.
func (s *Script) Place() (sector uint64, n uint32) {
	b := s.Byte()
	return uint64(b) * 8, []uint32{512, 4096, 4096, 65536}[s.Byte()%4]
}

// Any is a packet of any number, with a body from the script or one that decodes.
func (s *Script) Any(raw bool, node Node) Packet {
	cmd := wire.Cmd(s.Byte() % 64)
	if raw {
		b := s.Bytes(cmd.Fixed())
		return Packet{cmd, append(slices.Clone(b), make([]byte, max(cmd.Fixed()-len(b), 0))...), 0}
	}
	sector, n := s.Place()
	block := wire.BlockData{Sector: sector, BlockID: uint64(s.Byte()), Flags: wire.DPFlags(s.Byte()) | wire.DPFlags(s.Byte())<<8}
	switch cmd {
	case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
		return Packet{cmd, block.Append(nil), int(n)}
	case wire.CmdTrim, wire.CmdZeroes:
		return Packet{cmd, wire.TrimBlock{BlockData: block, Size: n}.Append(nil), 0}
	case wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq:
		return Packet{cmd, wire.BlockReq{Sector: sector, BlockID: wire.IDSyncer, Size: n}.Append(nil), 0}
	case wire.CmdState:
		w := uint32(s.Byte()) | uint32(s.Byte())<<8 | uint32(s.Byte())<<16
		return Packet{cmd, wire.State{Word: w}.Append(nil), 0}
	case wire.CmdStateChgReq, wire.CmdConnStChgReq:
		all := []sm.Change{sm.PromoteChange, sm.ForcedPromoteChange, sm.StartingSyncTChange, sm.StartingSyncSChange, sm.VerifyChange, sm.DetachChange,
			sm.RemoveVolumeChange, sm.DisconnectChange, sm.DisconnectPeerChange, sm.DisconnectSelfChange}
		change := all[int(s.Byte())%len(all)]
		return Packet{cmd, wire.StateChgReq{Mask: change.Mask, Val: change.Val}.Append(nil), 0}
	case wire.CmdUUIDs:
		u := node.UUIDs
		p := wire.UUIDs{Current: s.UUID(u), Bitmap: s.UUID(u), History: [2]uint64{s.UUID(u), 0}, Flags: wire.UUIDFlags(s.Byte() % 16)}
		return Packet{cmd, p.Append(nil), 0}
	case wire.CmdSizes:
		size := uint64(s.Byte()) * 8
		return Packet{cmd, wire.Sizes{DSize: size, CSize: uint64(s.Byte()) * 8, MaxBioSize: wire.MaxRequest}.Append(nil), 0}
	case wire.CmdSyncUUID:
		return Packet{cmd, wire.SyncUUID{UUID: uint64(s.Byte()) << 8}.Append(nil), 0}
	case wire.CmdOutOfSync:
		return Packet{cmd, wire.BlockDesc{Sector: sector, Size: n}.Append(nil), 0}
	case wire.CmdBitmap, wire.CmdCompressedBitmap:
		return Packet{cmd, s.Bytes(int(s.Byte() % 64)), 0}
	case wire.CmdStateChgReply, wire.CmdConnStChgReply:
		return Packet{cmd, wire.StateChgReply{Code: int32(s.Byte()%24) - 21}.Append(nil), 0}
	case wire.CmdBarrier:
		return Packet{cmd, wire.Barrier{Number: uint32(s.Byte())}.Append(nil), 0}
	}
	return Packet{cmd, make([]byte, cmd.Fixed()), 0}
}

// Honest is what an honest peer would begin; nothing, if it would not fit on the device.
func (s *Script) Honest(node Node) []Packet {
	b := s.Byte()
	sector, n := s.Place()
	if int64(sector)*wire.SectorSize+int64(n) > node.Size {
		return nil
	}
	block := wire.BlockData{Sector: sector, BlockID: uint64(b), Flags: wire.DPSendWriteAck | wire.DPFlags(b)&wire.DPFUA}
	switch b % 8 {
	case 0:
		return []Packet{{wire.CmdData, block.Append(nil), int(n)}}
	case 1:
		return []Packet{{wire.CmdZeroes, wire.TrimBlock{BlockData: block, Size: n}.Append(nil), 0}}
	case 2:
		barrier := Packet{wire.CmdBarrier, wire.Barrier{Number: uint32(b)}.Append(nil), 0}
		if b&8 != 0 {
			return []Packet{barrier, {Cmd: wire.CmdUnplugRemote}}
		}
		return []Packet{barrier}
	case 3:
		return []Packet{{wire.CmdDataRequest, wire.BlockReq{Sector: sector, BlockID: uint64(b), Size: n}.Append(nil), 0}}
	case 4:
		return []Packet{{wire.CmdRSDataRequest, wire.BlockReq{Sector: sector, BlockID: wire.IDSyncer, Size: n}.Append(nil), 0}}
	case 5:
		return []Packet{{wire.CmdOutOfSync, wire.BlockDesc{Sector: sector, Size: n}.Append(nil), 0}}
	case 6:
		st := node.State
		w := sm.State{Role: st.Peer, Peer: st.Role, Conn: sm.Connected, Disk: st.PeerDisk, PeerDisk: st.Disk, UserISP: b&8 != 0}
		if b&16 != 0 {
			w.Disk = []sm.Disk{sm.Failed, sm.Diskless, sm.Negotiating, sm.UpToDate}[b>>5&3]
		}
		return []Packet{{wire.CmdState, wire.State{Word: w.Word()}.Append(nil), 0}}
	}
	change := []sm.Change{sm.PromoteChange, sm.DetachChange, sm.StartingSyncSChange, sm.StartingSyncTChange}[b>>3&3]
	return []Packet{{wire.CmdStateChgReq, wire.StateChgReq{Mask: change.Mask, Val: change.Val}.Append(nil), 0}}
}

// A Seed is a conversation to begin with: from where on, and the script.
type Seed struct {
	Where  byte
	Script []byte
}

// Seeds are those of FuzzConversation, beside the recordings.
func Seeds() (all []Seed) {
	for where := range byte(16) {
		for _, script := range [][]byte{
			{0},
			{32 | 16 | 2, 9, 1, 1, 1, 64 | 9, 2, 1, 0, 12, 0, 64 | 4, 0, 9, 1, 1, 1, 6, 2, 1, 0, 16 | 13, 255, 16 | 13, 255, 64 | 11, 1, 4, 2},
			{2, 9, 1, 1, 1, 9, 2, 1, 0, 4, 0, 4, 2, 12, 0, 9, 3, 1, 1, 13, 9, 12, 1},
			{2, 0, 18, 1, 1, 1, 1, 3, 0, 18, 1, 1, 1, 1, 5, 0, 14, 1, 1, 1, 1, 66, 8, 1, 11, 1, 4, 6, 4, 7},
		} {
			all = append(all, Seed{where, script})
		}
	}
	return all
}
