package engine

import (
	"testing"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
)

// FuzzReceive feeds arbitrary bytes to a node, on either socket, in one of the places where a conversation begins: it never panics, keeps
// every bound, uses its disk only where it may, and nothing is left of it in the end (invariant I8).
func FuzzReceive(f *testing.F) {
	image, room, err := conversationImage()
	if err != nil {
		f.Fatal(err)
	}
	data := func(cmd wire.Cmd, fixed []byte, payload int) []byte {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(fixed) + payload)})
		return append(append(b, fixed...), make([]byte, payload)...)
	}
	for where := range byte(8) {
		for _, b := range [][]byte{
			data(wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil), 0),
			data(wire.CmdData, wire.BlockData{Sector: 8, BlockID: 1, Flags: wire.DPSendWriteAck}.Append(nil), 4096),
			data(wire.CmdRSDataReply, wire.BlockData{Sector: 0, BlockID: wire.IDSyncer}.Append(nil), 4096),
			data(wire.CmdTrim, wire.TrimBlock{BlockData: wire.BlockData{Sector: 0}, Size: 1 << 16}.Append(nil), 0),
			data(wire.CmdDataRequest, wire.BlockReq{Sector: 0, Size: 4096}.Append(nil), 0),
			data(wire.CmdBarrier, wire.Barrier{Number: 1}.Append(nil), 0),
			data(wire.CmdBitmap, nil, 0),
			data(wire.CmdOutOfSync, wire.BlockDesc{Sector: 0, Size: 4096}.Append(nil), 0),
			data(wire.CmdStateChgReq, wire.StateChgReq{Mask: 3, Val: 1}.Append(nil), 0),
			data(wire.CmdSyncUUID, wire.SyncUUID{UUID: 42}.Append(nil), 0),
		} {
			f.Add(where<<1, b)
		}
		f.Add(where<<1|1, data(wire.CmdWriteAck, wire.BlockAck{Sector: 8, BlockID: 1, Size: 4096}.Append(nil), 0))
		f.Add(where<<1|1, data(wire.CmdPing, nil, 0))
	}
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		c, err := newConversation(image, room, []byte{2})
		if err != nil {
			t.Fatal(err)
		}
		c.start(mode >> 1)
		if c.up {
			c.in[mode&1] = input
		}
		c.turn()
		c.bounded()
		if _, err := metadata.DecodeSuperblock(c.disks[0][room.Superblock:][:PageSize]); err != nil {
			t.Errorf("the superblock: %v", err)
		}
		c.end()
	})
}
