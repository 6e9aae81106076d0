package replication

import (
	"math/rand/v2"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// floodKind makes packets of a kind.
type floodKind struct {
	name   string
	short  bool // also when time is short
	writes bool // only a Primary says so
	owes   bool // makes a Primary wait for a resync that the peer never begins
	sock   engine.Socket
	make   func(r *rand.Rand, b []byte) []byte // appends one
}

func packet(b []byte, cmd wire.Cmd, body []byte, payload int) []byte {
	b = wire.AppendHeader100(b, wire.Header{Cmd: cmd, Length: uint32(len(body) + payload)})
	return append(append(b, body...), make([]byte, payload)...)
}

func state(role sm.Role, conn sm.Conn) sm.State {
	return sm.State{Role: role, Peer: sm.Secondary, Conn: conn, Disk: sm.UpToDate, PeerDisk: sm.UpToDate}
}

// sector is one of the first MiB.
func sector(r *rand.Rand) uint64 { return uint64(r.IntN(2048)) }

func blockOf(r *rand.Rand) wire.BlockData {
	return wire.BlockData{Sector: sector(r), BlockID: uint64(r.IntN(64)), Flags: wire.DPSendWriteAck}
}

func ackKind(cmd wire.Cmd) floodKind {
	return floodKind{name: cmd.String(), sock: engine.MetaSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, cmd, wire.BlockAck{Sector: sector(r), BlockID: uint64(r.IntN(64)), Size: 512}.Append(nil), 0)
	}}
}

func dataKind(cmd wire.Cmd, short bool, body func(r *rand.Rand) []byte, payload int) floodKind {
	return floodKind{name: cmd.String(), short: short, sock: engine.DataSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, cmd, body(r), payload)
	}}
}

func byPrimary(k floodKind) floodKind {
	k.writes = true
	return k
}

// owing is a kind that has the node wait for the peer, as the rules are: until the time is up in which it has to go on.
func owing(k floodKind) floodKind {
	k.owes = true
	return k
}

func stateKind(name string, short bool, word func(r *rand.Rand) sm.State) floodKind {
	k := dataKind(wire.CmdState, short, func(r *rand.Rand) []byte { return wire.State{Word: word(r).Word()}.Append(nil) }, 0)
	k.name = name
	return k
}

func changeKind(name string, cmd wire.Cmd, short bool, change func(r *rand.Rand) sm.Change) floodKind {
	k := dataKind(cmd, short, func(r *rand.Rand) []byte {
		c := change(r)
		return wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil)
	}, 0)
	k.name = name
	return k
}

func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func trimOf(r *rand.Rand) []byte { return wire.TrimBlock{BlockData: blockOf(r), Size: 512}.Append(nil) }

func requestOf(r *rand.Rand) []byte {
	return wire.BlockReq{Sector: sector(r), BlockID: wire.IDSyncer, Size: 512}.Append(nil)
}

var floodKinds = []floodKind{
	{name: "P_PING", short: true, sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte { return packet(b, wire.CmdPing, nil, 0) }},
	{name: "P_PING_ACK", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte { return packet(b, wire.CmdPingAck, nil, 0) }},
	stateKind("P_STATE that pauses and resumes", true, func(r *rand.Rand) sm.State {
		s := state(sm.Secondary, sm.Connected)
		s.UserISP = r.IntN(2) == 0
		return s
	}),
	stateKind("P_STATE", false, func(r *rand.Rand) sm.State {
		s := state(oneOf(r, sm.Primary, sm.Secondary), oneOf(r, sm.Conns()...))
		s.Disk = oneOf(r, sm.Diskless, sm.Failed, sm.Negotiating, sm.Inconsistent, sm.Outdated, sm.Consistent, sm.UpToDate)
		return s
	}),
	changeKind("P_STATE_CHG_REQ, the same", wire.CmdStateChgReq, true, func(*rand.Rand) sm.Change { return sm.Change{Mask: ^uint32(0)} }),
	owing(changeKind("P_STATE_CHG_REQ", wire.CmdStateChgReq, false, func(r *rand.Rand) sm.Change {
		return oneOf(r, sm.PromoteChange, sm.DetachChange, sm.StartingSyncSChange, sm.StartingSyncTChange, sm.VerifyChange, sm.Change{Mask: r.Uint32(), Val: r.Uint32()})
	})),
	owing(changeKind("P_STATE_CHG_REQ to invalidate", wire.CmdStateChgReq, false, func(*rand.Rand) sm.Change { return sm.StartingSyncSChange })),
	changeKind("P_CONN_ST_CHG_REQ", wire.CmdConnStChgReq, true, func(r *rand.Rand) sm.Change { return sm.Change{Mask: r.Uint32() &^ 0x1f0} }),
	changeKind("P_CONN_ST_CHG_REQ to disconnect", wire.CmdConnStChgReq, false, func(*rand.Rand) sm.Change { return sm.DisconnectChange }),
	byPrimary(dataKind(wire.CmdData, true, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512)),
	byPrimary(dataKind(wire.CmdTrim, true, trimOf, 0)),
	dataKind(wire.CmdZeroes, false, trimOf, 0),
	dataKind(wire.CmdDataReply, false, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512),
	dataKind(wire.CmdRSDataReply, false, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512),
	dataKind(wire.CmdBarrier, true, func(r *rand.Rand) []byte { return wire.Barrier{Number: r.Uint32()}.Append(nil) }, 0),
	dataKind(wire.CmdBitmap, true, func(*rand.Rand) []byte { return make([]byte, 64) }, 0),
	dataKind(wire.CmdCompressedBitmap, false, func(*rand.Rand) []byte { return make([]byte, 64) }, 0),
	dataKind(wire.CmdUnplugRemote, true, func(*rand.Rand) []byte { return nil }, 0),
	dataKind(wire.CmdDataRequest, true, requestOf, 0),
	dataKind(wire.CmdRSDataRequest, true, requestOf, 0),
	dataKind(wire.CmdRSThinReq, false, requestOf, 0),
	byPrimary(dataKind(wire.CmdOutOfSync, true, func(r *rand.Rand) []byte { return wire.BlockDesc{Sector: sector(r), Size: 4096}.Append(nil) }, 0)),
	dataKind(wire.CmdSyncUUID, false, func(r *rand.Rand) []byte { return wire.SyncUUID{UUID: r.Uint64()}.Append(nil) }, 0),
	dataKind(wire.CmdUUIDs, true, func(r *rand.Rand) []byte {
		return wire.UUIDs{Current: r.Uint64(), Flags: wire.UUIDFlags(r.Uint64() & 15)}.Append(nil)
	}, 0),
	dataKind(wire.CmdSizes, true, func(*rand.Rand) []byte {
		return wire.Sizes{DSize: 8, CSize: 16, MaxBioSize: wire.MaxRequest}.Append(nil)
	}, 0),
	dataKind(wire.CmdSyncParam89, true, func(*rand.Rand) []byte { return wire.SyncParam89{}.Append(nil) }, 0),
	dataKind(wire.CmdProtocol, false, func(*rand.Rand) []byte { return wire.Protocol{Protocol: wire.ProtC}.Append(nil) }, 0),
	dataKind(wire.CmdProtocolUpdate, true, func(*rand.Rand) []byte { return wire.Protocol{Protocol: wire.ProtC}.Append(nil) }, 0),
	dataKind(wire.CmdDelayProbe, true, func(*rand.Rand) []byte { return make([]byte, 8) }, 0),
	ackKind(wire.CmdRecvAck), ackKind(wire.CmdWriteAck), ackKind(wire.CmdRSWriteAck), ackKind(wire.CmdNegAck), ackKind(wire.CmdNegDReply),
	ackKind(wire.CmdNegRSDReply), ackKind(wire.CmdRSCancel), ackKind(wire.CmdSuperseded), ackKind(wire.CmdRSIsInSync),
	{name: "P_BARRIER_ACK", sock: engine.MetaSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdBarrierAck, wire.BarrierAck{Number: r.Uint32(), SetSize: 1}.Append(nil), 0)
	}},
	{name: "P_STATE_CHG_REPLY", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdStateChgReply, wire.StateChgReply{Code: 1}.Append(nil), 0)
	}},
	{name: "P_CONN_ST_CHG_REPLY", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdConnStChgReply, wire.StateChgReply{Code: 1}.Append(nil), 0)
	}},
}

// floodMixtures are packets of all kinds of the data socket, and of those that a connection survives.
var floodMixtures = []floodKind{
	{name: "anything", sock: engine.DataSock, make: anyOf(func(floodKind) bool { return true })},
	{name: "what a Secondary may say", short: true, sock: engine.DataSock, make: anyOf(func(k floodKind) bool { return k.short && !k.writes && k.name != "P_SIZES" })},
	{name: "what a Primary may say", short: true, sock: engine.DataSock, make: anyOf(func(k floodKind) bool { return k.short && k.name != "P_SIZES" })},
}

func anyOf(which func(floodKind) bool) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		for {
			if k := floodKinds[r.IntN(len(floodKinds))]; k.sock == engine.DataSock && which(k) {
				return k.make(r, b)
			}
		}
	}
}
