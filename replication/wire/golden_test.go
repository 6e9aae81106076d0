package wire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// Every packet, its bytes and what they mean. The first of each group are the
// examples of docs/drbd-wire.md annex A, the others were recorded or follow its
// tables; header in the first line of bytes.
var golden = []struct {
	header Header
	bytes  string
	body   body
	text   string
}{
	{Header{CmdInitialData, 0, 0}, "83740267 fff2 0000", nil, "P_INITIAL_DATA"},
	{Header{CmdInitialMeta, 0, 0}, "83740267 fff1 0000", nil, "P_INITIAL_META"},
	{
		Header{CmdConnectionFeatures, 0, 72},
		"83740267 fffe 0048  00000056 0000000f 00000065 00000000" + strings.Repeat("00", 56),
		Features{86, FeaturesAll, 101},
		"P_CONNECTION_FEATURES versions=86-101 features=TRIM|THIN_RESYNC|WSAME|WZEROES",
	},
	{
		Header{CmdProtocol, 0, 25},
		"8620ec20 0000 000b 00000019 00000000  00000003 00000000 00000000 00000000 00000000 00000000 00",
		Protocol{Protocol: ProtC},
		`P_PROTOCOL protocol=C after-sb=0,0,0 flags=0 two-primaries=0 integrity=""`,
	},
	{
		Header{CmdProtocolUpdate, 0, 31},
		"8620ec20 0000 002d 0000001f 00000000  00000001 00000004 00000008 0000000a 00000003 00000001 63726333326300",
		Protocol{ProtA, ASBDiscardLeastChanges, ASBDiscardSecondary, ASBViolentlyAs0p, ConnDiscardMyData | ConnDryRun, 1, "crc32c"},
		`P_PROTOCOL_UPDATE protocol=A after-sb=4,8,10 flags=DISCARD_MY_DATA|DRY_RUN two-primaries=1 integrity="crc32c"`,
	},
	{
		Header{CmdSyncParam89, 0, 148},
		"8620ec20 0000 0023 00000094 00000000  000000fa" +
			"736861323536" + strings.Repeat("00", 58) + "6d6435" + strings.Repeat("00", 61) +
			"00000014 0000000a 00000064 00019000",
		SyncParam89{250, "sha256", "md5", 20, 10, 100, 102400},
		`P_SYNC_PARAM89 rate=250KiB/s verify="sha256" csums="md5" plan-ahead=20 delay-target=10 fill-target=100 max-rate=102400KiB/s`,
	},
	{
		Header{CmdSizes, 1, 56},
		"8620ec20 0001 000d 00000038 00000000  0000000000003fb0 0000000000000000 0000000000003fb0" +
			"00100000 0000 0002  00001000 00000200 00000000 00001000 00100000 01 00 00 00",
		Sizes{16304, 0, 16304, MaxRequest, 0, SizesNoResync, QueueLimits{4096, 512, 0, 4096, 1 << 20, 1, 0, 0}},
		"P_SIZES disk=8347648 user=0 current=8347648 max-bio=1048576 flags=NO_RESYNC",
	},
	{
		Header{CmdUUIDs, 0, 48},
		"8620ec20 0000 000c 00000030 00000000  1122334455667789 0000000000000004 0000000000000000 0000000000000001" +
			"00000000000007f6 0000000000000012",
		UUIDs{0x1122334455667789, UUIDJustCreated, [2]uint64{0, 1}, 2038, UUIDCrashedPrimary | 0x10},
		"P_UUIDS current=1122334455667789 bitmap=0000000000000004 history=0000000000000000,0000000000000001 bits=2038 flags=CRASHED_PRIMARY|0x10",
	},
	{
		Header{CmdState, 0, 4}, "8620ec20 0000 000e 00000004 00000000  0000d082",
		State{0x0000d082}, "P_STATE Secondary/Unknown WFConnection UpToDate/DUnknown",
	},
	{
		Header{CmdState, 0, 4}, "8620ec20 0000 000e 00000004 00000000  000110a9",
		State{0x000110a9}, "P_STATE Primary/Secondary Connected UpToDate/UpToDate",
	},
	{
		Header{CmdState, 7, 4}, "8620ec20 0007 000e 00000004 00000000  00010aea",
		State{0x00010aea}, "P_STATE Secondary/Secondary WFBitMapT Outdated/UpToDate",
	},
	{
		Header{CmdSyncUUID, 0, 8}, "8620ec20 0000 000f 00000008 00000000  0001000000000004",
		SyncUUID{UUIDNewBMOffset + 4}, "P_SYNC_UUID uuid=0001000000000004",
	},
	{Header{CmdPing, 0, 0}, "8620ec20 0000 0013 00000000 00000000", nil, "P_PING"},
	{Header{CmdPingAck, 0, 0}, "8620ec20 0000 0014 00000000 00000000", nil, "P_PING_ACK"},
	{
		Header{CmdData, 0, 0x1018},
		"8620ec20 0000 0000 00001018 00000000  0000000000000008 1122334455667788 00000001 00000100",
		BlockData{8, 0x1122334455667788, 1, DPSendWriteAck},
		"P_DATA off=4096 id=0x1122334455667788 seq=1 flags=SEND_WRITE_ACK",
	},
	{
		Header{CmdDataReply, 2, 0x218},
		"8620ec20 0002 0001 00000218 00000000  0000000000000001 ffff888001234567 00000000 00000000",
		BlockData{1, 0xffff888001234567, 0, 0},
		"P_DATA_REPLY off=512 id=0xffff888001234567 seq=0 flags=0",
	},
	{
		Header{CmdRSDataReply, 0, 0x100018},
		"8620ec20 0000 0002 00100018 00000000  0000000000000800 ffffffffffffffff 00000000 00000000",
		BlockData{2048, IDSyncer, 0, 0},
		"P_RS_DATA_REPLY off=1048576 id=SYNCER seq=0 flags=0",
	},
	{
		Header{CmdBarrier, 0, 8}, "8620ec20 0000 0003 00000008 00000000  01000000 00000000",
		Barrier{1}, "P_BARRIER barrier=1",
	},
	{
		Header{CmdBarrierAck, 0, 8}, "8620ec20 0000 001c 00000008 00000000  01000000 00000001",
		BarrierAck{1, 1}, "P_BARRIER_ACK barrier=1 set_size=1",
	},
	{Header{CmdBitmap, 0, 32}, "8620ec20 0000 0004 00000020 00000000", nil, "P_BITMAP"},
	{Header{CmdCompressedBitmap, 0, 7}, "8620ec20 0000 0024 00000007 00000000", nil, "P_COMPRESSED_BITMAP"},
	{Header{CmdUnplugRemote, 0, 0}, "8620ec20 0000 0007 00000000 00000000", nil, "P_UNPLUG_REMOTE"},
	{Header{CmdAuthChallenge, 0, 64}, "8620ec20 0000 0010 00000040 00000000", nil, "P_AUTH_CHALLENGE"},
	{Header{CmdAuthResponse, 0, 20}, "8620ec20 0000 0011 00000014 00000000", nil, "P_AUTH_RESPONSE"},
	{
		Header{CmdDataRequest, 0, 24}, "8620ec20 0000 0008 00000018 00000000  0000000000000010 0000000000000abc 00001000 00000000",
		BlockReq{16, 0xabc, 4096}, "P_DATA_REQUEST off=8192 len=4096 id=0xabc",
	},
	{
		Header{CmdRSDataRequest, 0, 24}, "8620ec20 0000 0009 00000018 00000000  0000000000000800 ffffffffffffffff 00100000 00000000",
		BlockReq{2048, IDSyncer, MaxRequest}, "P_RS_DATA_REQUEST off=1048576 len=1048576 id=SYNCER",
	},
	{
		Header{CmdRSThinReq, 0, 24}, "8620ec20 0000 0032 00000018 00000000  0000000000000080 ffffffffffffffff 00010000 00000000",
		BlockReq{128, IDSyncer, 65536}, "P_RS_THIN_REQ off=65536 len=65536 id=SYNCER",
	},
	{
		Header{CmdCsumRSRequest, 0, 28}, "8620ec20 0000 0021 0000001c 00000000  0000000000000008 ffffffffffffffff 00001000 00000000",
		BlockReq{8, IDSyncer, 4096}, "P_CSUM_RS_REQUEST off=4096 len=4096 id=SYNCER",
	},
	{
		Header{CmdOVRequest, 0, 24}, "8620ec20 0000 001e 00000018 00000000  0000000000000000 ffffffffffffffff 00001000 00000000",
		BlockReq{0, IDSyncer, 4096}, "P_OV_REQUEST off=0 len=4096 id=SYNCER",
	},
	{
		Header{CmdOVReply, 0, 28}, "8620ec20 0000 001f 0000001c 00000000  0000000000000000 ffffffffffffffff 00001000 00000000",
		BlockReq{0, IDSyncer, 4096}, "P_OV_REPLY off=0 len=4096 id=SYNCER",
	},
	{
		Header{CmdRecvAck, 0, 24}, "8620ec20 0000 0015 00000018 00000000  0000000000000008 1122334455667788 00001000 00000001",
		BlockAck{8, 0x1122334455667788, 4096, 1}, "P_RECV_ACK off=4096 len=4096 id=0x1122334455667788 seq=1",
	},
	{
		Header{CmdWriteAck, 0, 24}, "8620ec20 0000 0016 00000018 00000000  0000000000000008 1122334455667788 00001000 00000001",
		BlockAck{8, 0x1122334455667788, 4096, 1}, "P_WRITE_ACK off=4096 len=4096 id=0x1122334455667788 seq=1",
	},
	{
		Header{CmdRSWriteAck, 0, 24}, "8620ec20 0000 0017 00000018 00000000  0000000000000008 ffffffffffffffff 00001000 00000002",
		BlockAck{8, IDSyncer, 4096, 2}, "P_RS_WRITE_ACK off=4096 len=4096 id=SYNCER seq=2",
	},
	{
		Header{CmdSuperseded, 0, 24}, "8620ec20 0000 0018 00000018 00000000  0000000000000008 0000000000000001 00001000 00000003",
		BlockAck{8, 1, 4096, 3}, "P_SUPERSEDED off=4096 len=4096 id=0x1 seq=3",
	},
	{
		Header{CmdNegAck, 0, 24}, "8620ec20 0000 0019 00000018 00000000  0000000000000008 0000000000000001 00000000 00000004",
		BlockAck{8, 1, 0, 4}, "P_NEG_ACK off=4096 len=0 id=0x1 seq=4",
	},
	{
		Header{CmdNegDReply, 0, 24}, "8620ec20 0000 001a 00000018 00000000  0000000000000008 0000000000000001 00001000 00000005",
		BlockAck{8, 1, 4096, 5}, "P_NEG_DREPLY off=4096 len=4096 id=0x1 seq=5",
	},
	{
		Header{CmdNegRSDReply, 0, 24}, "8620ec20 0000 001b 00000018 00000000  0000000000000008 ffffffffffffffff 00001000 00000006",
		BlockAck{8, IDSyncer, 4096, 6}, "P_NEG_RS_DREPLY off=4096 len=4096 id=SYNCER seq=6",
	},
	{
		Header{CmdOVResult, 0, 24}, "8620ec20 0000 0020 00000018 00000000  0000000000000008 0000000000001267 00001000 00000007",
		BlockAck{8, IDInSync, 4096, 7}, "P_OV_RESULT off=4096 len=4096 id=IN_SYNC seq=7",
	},
	{
		Header{CmdOVResult, 0, 24}, "8620ec20 0000 0020 00000018 00000000  0000000000000010 0000000000001268 00001000 00000008",
		BlockAck{16, IDOutOfSync, 4096, 8}, "P_OV_RESULT off=8192 len=4096 id=OUT_OF_SYNC seq=8",
	},
	{
		Header{CmdRSIsInSync, 0, 24}, "8620ec20 0000 0022 00000018 00000000  0000000000000008 ffff888001234567 00001000 00000009",
		BlockAck{8, 0xffff888001234567, 4096, 9}, "P_RS_IS_IN_SYNC off=4096 len=4096 id=0xffff888001234567 seq=9",
	},
	{
		Header{CmdRSCancel, 0, 24}, "8620ec20 0000 0029 00000018 00000000  0000000000000008 ffffffffffffffff 00001000 0000000a",
		BlockAck{8, IDSyncer, 4096, 10}, "P_RS_CANCEL off=4096 len=4096 id=SYNCER seq=10",
	},
	{
		Header{CmdRetryWrite, 0, 24}, "8620ec20 0000 002c 00000018 00000000  0000000000000008 0000000000000001 00001000 ffffffff",
		BlockAck{8, 1, 4096, 1<<32 - 1}, "P_RETRY_WRITE off=4096 len=4096 id=0x1 seq=4294967295",
	},
	{
		Header{CmdOutOfSync, 3, 16}, "8620ec20 0003 0028 00000010 00000000  0000000000000008 00002000 00000000",
		BlockDesc{8, 8192}, "P_OUT_OF_SYNC off=4096 len=8192",
	},
	{
		Header{CmdRSDeallocated, 0, 16}, "8620ec20 0000 0033 00000010 00000000  0000000000000080 00010000 00000000",
		BlockDesc{128, 65536}, "P_RS_DEALLOCATED off=65536 len=65536",
	},
	{
		Header{CmdTrim, 0, 28}, "8620ec20 0000 0031 0000001c 00000000  0000000000000008 0000000000000001 00000002 00000042 08000000",
		TrimBlock{BlockData{8, 1, 2, DPRWSync | DPDiscard}, MaxTrim},
		"P_TRIM off=4096 len=134217728 id=0x1 seq=2 flags=RW_SYNC|DISCARD",
	},
	{
		Header{CmdZeroes, 0, 28}, "8620ec20 0000 0036 0000001c 00000000  0000000000000008 0000000000000001 00000003 00000544 00000200",
		TrimBlock{BlockData{8, 1, 3, DPMaySetInSync | DPDiscard | DPSendWriteAck | DPZeroes}, 512},
		"P_ZEROES off=4096 len=512 id=0x1 seq=3 flags=MAY_SET_IN_SYNC|DISCARD|SEND_WRITE_ACK|ZEROES",
	},
	{
		Header{CmdWSame, 0, 28 + 512}, "8620ec20 0000 0034 0000021c 00000000  0000000000000008 0000000000000001 00000004 00000200 00001000",
		TrimBlock{BlockData{8, 1, 4, DPWSame}, 4096},
		"P_WSAME off=4096 len=4096 id=0x1 seq=4 flags=WSAME",
	},
	{
		Header{CmdStateChgReq, 0, 8}, "8620ec20 0000 0012 00000008 00000000  00001e03 00001001",
		StateChgReq{0x1e03, 0x1001}, "P_STATE_CHG_REQ mask=00001e03 val=00001001",
	},
	{
		Header{CmdStateChgReply, 0, 4}, "8620ec20 0000 001d 00000004 00000000  00000001",
		StateChgReply{SSSuccess}, "P_STATE_CHG_REPLY SS_SUCCESS",
	},
	{
		Header{CmdConnStChgReq, 0, 8}, "8620ec20 0000 002a 00000008 00000000  000001f0 00000010",
		StateChgReq{0x1f0, 0x10}, "P_CONN_ST_CHG_REQ mask=000001f0 val=00000010",
	},
	{
		Header{CmdConnStChgReply, 0, 4}, "8620ec20 0000 002b 00000004 00000000  fffffff9",
		StateChgReply{SSPrimaryNOP}, "P_CONN_ST_CHG_REPLY SS_PRIMARY_NOP",
	},
	{
		Header{CmdDelayProbe, 0, 8}, "8620ec20 0000 0027 00000008 00000000  00000005 000003e8",
		DelayProbe{5, 1000}, "P_DELAY_PROBE seq=5 usec=1000",
	},
}

func TestGolden(t *testing.T) {
	seen := map[Cmd]bool{}
	for _, g := range golden {
		seen[g.header.Cmd] = true
		raw := unhex(t, g.bytes)
		got, h, n := AppendHeader100(nil, g.header), Header{}, HeaderLen100
		var err error
		if g.header.Cmd >= CmdInitialMeta {
			got, n = AppendHeader80(nil, g.header), HeaderLen80
			h, err = DecodeHeader80(raw)
		} else {
			h, err = DecodeHeader100(raw)
		}
		if err != nil || h != g.header {
			t.Errorf("%v: header %+v, %v", g.header.Cmd, h, err)
			continue
		}
		if g.body != nil {
			got = g.body.Append(got)
			v, err := decoders[h.Cmd].decode(raw[n:])
			if err != nil || !reflect.DeepEqual(v, g.body) {
				t.Errorf("%v: decoded %+v, %v", h.Cmd, v, err)
			}
			if len(raw)-n != h.DecodeLen() {
				t.Errorf("%v: DecodeLen %d of %d bytes", h.Cmd, h.DecodeLen(), len(raw)-n)
			}
		}
		if !bytes.Equal(got, raw) {
			t.Errorf("%v:\n got %x\nwant %x", h.Cmd, got, raw)
		}
		if text := Format(h.Cmd, raw[n:]); text != g.text {
			t.Errorf("got  %s\nwant %s", text, g.text)
		}
		if err := CheckLength(h.Cmd.Socket(), h); (err == nil) != (h.Cmd != CmdWSame) {
			t.Errorf("%v: CheckLength: %v", h.Cmd, err)
		}
	}
	for _, r := range table {
		if !seen[r.cmd] {
			t.Errorf("%v has no example", r.cmd)
		}
		if _, ok := decoders[r.cmd]; ok != (r.fixed > 0) {
			t.Errorf("%v: decoder %v, fixed part of %d bytes", r.cmd, ok, r.fixed)
		}
	}
}

// The short P_SIZES is what a peer sends that has not agreed to FeatureWSame.
func TestShortSizes(t *testing.T) {
	raw := unhex(t, "0000000000003fb0 0000000000000008 0000000000000000 00100000 0001 0001")
	want := Sizes{DSize: 16304, USize: 8, MaxBioSize: MaxRequest, QueueOrderType: 1, Flags: SizesForced}
	got, err := DecodeSizes(raw)
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if b := got.AppendShort(nil); !bytes.Equal(b, raw) || len(b) != SizesLen(0) {
		t.Errorf("%x", b)
	}
	if n := len(got.Append(nil)); n != SizesLen(FeaturesAll) {
		t.Errorf("long form of %d bytes", n)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
