package wire_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/replication/wire/wiretest"
)

// recorded are the packets that two kernels were seen to send, from
// docs/drbd-wire.md annex D.1. The recordings kept here show each of them.
var recorded = []wire.Cmd{
	wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply, wire.CmdBarrier, wire.CmdBitmap,
	wire.CmdUnplugRemote, wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdProtocol,
	wire.CmdUUIDs, wire.CmdSizes, wire.CmdState, wire.CmdSyncUUID, wire.CmdAuthChallenge,
	wire.CmdAuthResponse, wire.CmdStateChgReq, wire.CmdPing, wire.CmdPingAck, wire.CmdRecvAck,
	wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdSuperseded, wire.CmdNegAck, wire.CmdNegDReply,
	wire.CmdNegRSDReply, wire.CmdBarrierAck, wire.CmdStateChgReply, wire.CmdOVRequest,
	wire.CmdOVReply, wire.CmdOVResult, wire.CmdCsumRSRequest, wire.CmdRSIsInSync,
	wire.CmdSyncParam89, wire.CmdCompressedBitmap, wire.CmdOutOfSync, wire.CmdRSCancel,
	wire.CmdConnStChgReq, wire.CmdConnStChgReply, wire.CmdRetryWrite, wire.CmdProtocolUpdate,
	wire.CmdTrim, wire.CmdRSThinReq, wire.CmdRSDeallocated, wire.CmdZeroes,
	wire.CmdInitialMeta, wire.CmdInitialData, wire.CmdConnectionFeatures,
}

// cut names the recordings in which a machine or the wire goes away inside a
// packet of B: how much of that packet came, and whether later bytes came
// without the ones before. In all others every byte belongs to a whole packet.
var cut = map[string]struct {
	left int
	gap  bool
}{
	"04-kill-peer.k7": {left: 14480},
	"15-ahead-behind": {gap: true},
}

// Every byte of both sockets of every recording, in both directions, is read by
// this package and comes back from it the same.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcap.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	seen := map[wire.Cmd]int{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pcap.gz")
		t.Run(name, func(t *testing.T) {
			rec := read(t, file)
			checkRecording(t, rec, seen)
			left, gap := 0, false
			for _, c := range rec.Conns {
				left += c.Left[wiretest.NodeA] + c.Left[wiretest.NodeB]
				gap = gap || c.Gap[wiretest.NodeA] || c.Gap[wiretest.NodeB]
			}
			if want := cut[name]; left != want.left || gap != want.gap {
				t.Errorf("%d bytes belong to no packet, gap %v", left, gap)
			}
		})
	}
	for _, c := range recorded {
		if seen[c] == 0 {
			t.Errorf("no recording shows %v", c)
		}
	}
	for c := range seen {
		if !slices.Contains(recorded, c) {
			t.Errorf("%v was not known to have been recorded", c)
		}
	}
}

func read(t testing.TB, file string) *wiretest.Recording {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := wiretest.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func checkRecording(t *testing.T, rec *wiretest.Recording, seen map[wire.Cmd]int) {
	packets := 0
	for _, ev := range rec.Events {
		if ev.Kind != wiretest.Packet {
			continue
		}
		packets++
		seen[ev.Header.Cmd]++
		if back := encode(t, ev); !bytes.Equal(back, ev.Raw) {
			t.Fatalf("%v %v: %s\n%x comes back as\n%x", ev.At, ev.From,
				wire.Format(ev.Header.Cmd, ev.Body[:ev.Header.DecodeLen()]), ev.Raw, back)
		}
		if !ev.Header.Cmd.Volumed() && ev.Header.Volume != 0 {
			t.Errorf("%v on volume %d", ev.Header.Cmd, ev.Header.Volume)
		}
	}
	if packets == 0 {
		t.Error("no packets")
	}
}

// encode decodes a packet and builds its bytes anew; only the pads that senders
// leave as garbage are taken over from the original.
func encode(t *testing.T, ev wiretest.Event) []byte {
	t.Helper()
	h := ev.Header
	var out []byte
	if len(ev.Raw)-len(ev.Body) == wire.HeaderLen80 {
		out = wire.AppendHeader80(nil, h)
	} else {
		out = wire.AppendHeader100(nil, h)
	}
	n := h.DecodeLen()
	fixed, err := recode(h.Cmd, ev.Body[:n])
	if err != nil {
		t.Fatalf("%v %v: %v", ev.At, h, err)
	}
	if len(fixed) != n {
		t.Fatalf("%v %v: %d bytes come back as %d", ev.At, h, n, len(fixed))
	}
	if from, to := pad(h.Cmd); from < to {
		copy(fixed[from:to], ev.Body[from:to])
	}
	return append(append(out, fixed...), ev.Body[n:]...)
}

// pad gives the bytes of the fixed part that hold garbage in recordings. The
// other pads (P_BARRIER, P_SIZES, the features) were always zero.
func pad(c wire.Cmd) (from, to int) {
	switch c {
	case wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq, wire.CmdCsumRSRequest,
		wire.CmdOVRequest, wire.CmdOVReply:
		return 20, 24
	case wire.CmdOutOfSync, wire.CmdRSDeallocated:
		return 12, 16
	}
	return 0, 0
}

func recode(c wire.Cmd, b []byte) ([]byte, error) {
	switch c {
	case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
		return again(wire.DecodeBlockData(b))
	case wire.CmdTrim, wire.CmdZeroes:
		return again(wire.DecodeTrimBlock(b))
	case wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq, wire.CmdCsumRSRequest,
		wire.CmdOVRequest, wire.CmdOVReply:
		return again(wire.DecodeBlockReq(b))
	case wire.CmdRecvAck, wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdSuperseded, wire.CmdNegAck,
		wire.CmdNegDReply, wire.CmdNegRSDReply, wire.CmdOVResult, wire.CmdRSIsInSync, wire.CmdRSCancel,
		wire.CmdRetryWrite:
		return again(wire.DecodeBlockAck(b))
	case wire.CmdOutOfSync, wire.CmdRSDeallocated:
		return again(wire.DecodeBlockDesc(b))
	case wire.CmdBarrier:
		return again(wire.DecodeBarrier(b))
	case wire.CmdBarrierAck:
		return again(wire.DecodeBarrierAck(b))
	case wire.CmdState:
		p, err := wire.DecodeState(b)
		return wire.State{Word: wire.BitsOf(p.Word).Word()}.Append(nil), err
	case wire.CmdStateChgReq, wire.CmdConnStChgReq:
		return again(wire.DecodeStateChgReq(b))
	case wire.CmdStateChgReply, wire.CmdConnStChgReply:
		return again(wire.DecodeStateChgReply(b))
	case wire.CmdUUIDs:
		return again(wire.DecodeUUIDs(b))
	case wire.CmdSyncUUID:
		return again(wire.DecodeSyncUUID(b))
	case wire.CmdProtocol, wire.CmdProtocolUpdate:
		return again(wire.DecodeProtocol(b))
	case wire.CmdSyncParam89:
		return again(wire.DecodeSyncParam89(b))
	case wire.CmdSizes:
		return again(wire.DecodeSizes(b))
	case wire.CmdConnectionFeatures:
		return again(wire.DecodeFeatures(b))
	}
	return nil, nil // nothing to decode
}

func again[P interface{ Append([]byte) []byte }](p P, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return p.Append(nil), nil
}
