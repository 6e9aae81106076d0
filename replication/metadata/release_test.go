package metadata

import (
	"testing"

	"github.com/urbd/urbd/bitmap"
)

func TestReleased(t *testing.T) {
	s := golden()
	s.Clean, s.Flags = false, 0x177
	got := s.Released()
	if want := Consistent | WasUpToDate | PeerOutdated | CrashedPrimary | ALClean | ALDisabled; !got.Clean || got.Flags != want {
		t.Errorf("%v, clean %v", got.Flags, got.Clean)
	}
	if s.Flags != 0x177 || s.Clean {
		t.Error("the original has changed")
	}
	if got.NeedsReplay() {
		t.Error("a released device needs a replay")
	}
}

func TestDriverDrops(t *testing.T) {
	for _, c := range []struct {
		bits, set int64
		want      bool
	}{{128, 127, true}, {128, 64, true}, {128, 63, false}, {129, 128, false}, {127, 126, false}, {64, 0, true}} {
		b := bitmap.New(c.bits * bitmap.BlockSize)
		b.SetRange(c.set*bitmap.BlockSize, 1)
		if got := DriverDrops(b); got != c.want {
			t.Errorf("bit %d of %d: %v", c.set, c.bits, got)
		}
	}
	if DriverDrops(bitmap.New(0)) {
		t.Error("an empty bitmap loses bits")
	}
}

func TestLastKnown(t *testing.T) {
	const text = "67108864\t/dev/vg/lv\nuuid:\tA1B2C3D4E5F60718\n"
	k, err := ParseLastKnown(text)
	if want := (LastKnown{67108864, "/dev/vg/lv", 0xA1B2C3D4E5F60718}); err != nil || k != want || k.String() != text {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err := ParseLastKnown("8192\t/dev/x"); err != nil || k.DeviceUUID != 0 || k.String() != "8192\t/dev/x\n" {
		t.Errorf("without uuid: %+v, %v", k, err)
	}
	for _, text := range []string{"", "67108864", "x\t/dev/x\n", "-1\t/dev/x\n", "9223372036854775807\t/dev/x\n", "1\t\n", "1\t/dev/x\nuuid:\tZZ\n"} {
		if k, err := ParseLastKnown(text); err == nil {
			t.Errorf("%q gives %+v", text, k)
		}
	}
}
