package wire

import "testing"

// The pairs a requester sends, from docs/drbd-wire.md 14.1, by what they ask.
func TestStateBits(t *testing.T) {
	for _, tc := range []struct {
		what      string
		mask, val uint32
		bits      StateBits
	}{
		{"promote", MaskRole, 0x1, StateBits{Role: 1}},
		{"forced promote", MaskRole | MaskDisk, 0x1001, StateBits{Role: 1, Disk: 8}},
		{"VerifyS", MaskConn, 0x120, StateBits{Conn: 18}},
		{"detach", MaskDisk, 0x400, StateBits{Disk: 2}},
		{"disconnect, outdate peer", MaskConn | MaskPeerDisk, 0xa010, StateBits{Conn: 1, PeerDisk: 5}},
		{"disconnect, outdate self", MaskConn | MaskDisk, 0xa10, StateBits{Conn: 1, Disk: 5}},
		{"peer", MaskPeer, 0x8, StateBits{Peer: 2}},
	} {
		if w := tc.bits.Word(); w != tc.val || w&^tc.mask != 0 {
			t.Errorf("%s: %08x, mask %08x", tc.what, w, tc.mask)
		}
	}
	wantMasks := map[uint32]uint32{
		MaskRole: 0x3, MaskRole | MaskDisk: 0x1e03, MaskConn: 0x1f0, MaskDisk: 0x1e00,
		MaskConn | MaskPeerDisk: 0x1e1f0, MaskConn | MaskDisk: 0x1ff0,
	}
	for got, want := range wantMasks {
		if got != want {
			t.Errorf("mask %08x in place of %08x", got, want)
		}
	}
}

func TestStateBitsRoundTrip(t *testing.T) {
	// Every value of the fields, under the flags in turn.
	for low := range uint32(1 << 17) {
		w := low | low*2654435761>>26<<17
		if back := BitsOf(w).Word(); back != w {
			t.Fatalf("%08x comes back as %08x", w, back)
		}
	}
	if back := BitsOf(0xff800000).Word(); back != 0 {
		t.Errorf("bits above 22 are kept: %08x", back)
	}
}

func TestStateText(t *testing.T) {
	for w, want := range map[uint32]string{
		0x00000000: "Unknown/Unknown StandAlone Diskless/Diskless",
		0x000110a9: "Primary/Secondary Connected UpToDate/UpToDate",
		0x007e0000: "Unknown/Unknown StandAlone Diskless/Diskless susp aftr_isp peer_isp user_isp susp_nod susp_fen",
		0x0001ffff: "(3)/(3) (31) (15)/(15)",
	} {
		if got := BitsOf(w).String(); got != want {
			t.Errorf("%08x: %s", w, got)
		}
	}
}

func TestCodeNames(t *testing.T) {
	for code, want := range map[int32]string{
		SSCWNoNeed: "SS_CW_NO_NEED", SSSuccess: "SS_SUCCESS", SSTwoPrimaries: "SS_TWO_PRIMARIES",
		-3: "SS_(-3)", SSNoLocalDisk: "SS_NO_LOCAL_DISK", SSPrimaryNOP: "SS_PRIMARY_NOP",
		SSConcurrentStChg: "SS_CONCURRENT_ST_CHG", SSOutdateWOConn: "SS_OUTDATE_WO_CONN",
		5: "SS_(5)", -22: "SS_(-22)", -1 << 31: "SS_(-2147483648)", 1<<31 - 1: "SS_(2147483647)",
	} {
		if got := CodeName(code); got != want {
			t.Errorf("%d: %s", code, got)
		}
	}
}

func TestAgree(t *testing.T) {
	kernel := Features{86, FeaturesAll, 101}
	for _, tc := range []struct {
		name      string
		own, peer Features
		version   uint32
		flags     FeatureFlags
		ok        bool
	}{
		{"a kernel", Offer(), kernel, 101, FeaturesAll, true},
		{"one like us", Offer(), Offer(), 101, FeaturesAll, true},
		{"fewer features", Offer(), Features{86, FeatureTrim, 101}, 101, FeatureTrim, true},
		{"unknown features", Offer(), Features{101, 0xfffffff0, 130}, 101, 0, true},
		{"too old", Offer(), Features{86, 0, 100}, 0, 0, false},
		{"too new", Offer(), Features{110, FeaturesAll, 122}, 0, 0, false},
		{"no maximum, old", Offer(), Features{86, 0, 0}, 0, 0, false},
		{"no maximum, equal", Offer(), Features{101, FeatureWSame, 0}, 101, FeatureWSame, true},
		{"two old ones", kernel, Features{90, 1, 96}, 96, 1, true},
	} {
		version, flags, ok := Agree(tc.own, tc.peer)
		if version != tc.version || flags != tc.flags || ok != tc.ok {
			t.Errorf("%s: %d, %v, %v", tc.name, version, flags, ok)
		}
		if v, f, o := Agree(tc.peer, tc.own); v != version || f != flags || o != ok {
			t.Errorf("%s: the peer says %d, %v, %v", tc.name, v, f, o)
		}
	}
}
