package wire

import (
	"errors"
	"fmt"
	"testing"
)

// The texts of whole packets are in the golden table; these are the others.
func TestTexts(t *testing.T) {
	for want, v := range map[string]any{
		"P_DATA vol=3 len=4120":  Header{CmdData, 3, 4120},
		"P_BARRIER len=8":        Header{CmdBarrier, 0, 8},
		"P_0x05 len=0":           Header{Cmd: 0x05},
		"P_0x48":                 Cmd(0x48),
		"P_0x100":                Cmd(0x100),
		"data":                   DataSock,
		"meta":                   MetaSock,
		"data+meta":              CmdDelayProbe.Socket(),
		"none":                   Cmd(0x2e).Socket(),
		"FUA|FLUSH|0x80000000":   DPFUA | DPFlush | 1<<31,
		"FORCED|NO_RESYNC|0x8":   SizesForced | SizesNoResync | 8,
		"SKIP_INITIAL_SYNC":      UUIDSkipInitialSync,
		"DISCARD_MY_DATA|0xff0":  UUIDDiscardMyData | 0xff0,
		"by none":                fmt.Sprintf("by %v", NoDigest),
		"sha256":                 SHA256,
		"wire: P_STATE: 3 bytes": &DecodeError{CmdState, "3 bytes"},
		"wire: header: no magic": &DecodeError{CmdUnspecified, "header: no magic"},
		"P_STATE (wire: P_STATE: 3 bytes in place of 4)": Format(CmdState, make([]byte, 3)),
		"P_0x05 9 bytes":                            Format(0x05, make([]byte, 9)),
		"P_BITMAP 4080 bytes":                       Format(CmdBitmap, make([]byte, MaxBitmap)),
		"P_TRIM (wire: p_trim: a range of 0 bytes)": Format(CmdTrim, make([]byte, 28)),
		"protocol=9 after-sb=0,0,0 flags=0x4 two-primaries=7 integrity=\"\\x01\"": Protocol{
			Protocol: 9, ConnFlags: 4, TwoPrimaries: 7, IntegrityAlg: "\x01",
		},
	} {
		if got := fmt.Sprint(v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestUnknownNumbers(t *testing.T) {
	for _, c := range []Cmd{0x05, 0x06, 0x0a, 0x25, 0x26, 0x2e, 0x30, 0x35, 0x37, 0x40, 0x48, 0x100, 0x101, 0xfff0, CmdUnspecified} {
		h := Header{Cmd: c, Length: 100}
		if c.Known() || c.Socket() != 0 || c.Fixed() != 0 || c.MayCarryPayload() || c.Volumed() || c.Handshake() ||
			c.Handled(DataSock|MetaSock) || h.DecodeLen() != 0 {
			t.Errorf("%v is known", c)
		}
		var bad *DecodeError
		if err := CheckLength(MetaSock, h); !errors.As(err, &bad) || bad.Packet != c {
			t.Errorf("%v: %v", c, err)
		}
	}
}
