package statemachine

import "testing"

// TestResyncWorkedExample is the example of docs/drbd-metadata.md 5.3, source a and target b.
func TestResyncWorkedExample(t *testing.T) {
	const (
		sourceData = 0x6D67_0000_0000_0001
		oldData    = 0x895D_0000_0000_0015
		syncUUID   = 0x895E_0000_0000_0015
		older      = 0x40F7_0000_0000_0000
	)
	a := UUIDs{sourceData, oldData, [2]uint64{older, 4}}
	b := UUIDs{Current: oldData &^ 1}
	announced := a

	a, sent := a.StartSource()
	b = b.StartTarget(sent, false)
	check := func(name string, got, want UUIDs) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if sent != syncUUID {
		t.Errorf("sync UUID %x, want %x", sent, uint64(syncUUID))
	}
	check("a running", a, UUIDs{sourceData, syncUUID, [2]uint64{oldData, older}})
	check("b running", b, UUIDs{Current: syncUUID &^ 1})
	check("a after", a.FinishSource(), UUIDs{sourceData, 0, [2]uint64{syncUUID, oldData}})
	check("b after", b.FinishTarget(announced, false), UUIDs{sourceData &^ 1, 0, [2]uint64{syncUUID &^ 1, oldData}})
}

func TestUUIDOperations(t *testing.T) {
	u := UUIDs{10, 21, [2]uint64{30, 40}}
	counting := UUIDs{0x700_00000100, 20, [2]uint64{30, 40}}
	fresh := UUIDs{Current: JustCreated}
	synced, sync := fresh.NewCurrent(0xF0, true).StartSource()
	for _, tc := range []struct {
		name      string
		got, want UUIDs
	}{
		{"new current keeps the bit of the old", UUIDs{Current: 11}.NewCurrent(0x101, false), UUIDs{0x100, 11, [2]uint64{}}},
		{"new current as Primary", UUIDs{Current: 10}.NewCurrent(0x100, true), UUIDs{0x101, 10, [2]uint64{}}},
		{"new current with a bitmap UUID", u.NewCurrent(0x100, false), UUIDs{0x100, 10, [2]uint64{30, 40}}},
		{"the command rotates it", u.NewCurrentRotated(0x100, false), UUIDs{0x100, 10, [2]uint64{21, 30}}},
		{"clear", u.ClearBitmap(), UUIDs{10, 0, [2]uint64{21, 30}}},
		{"clear nothing", UUIDs{10, 0, [2]uint64{30, 40}}.ClearBitmap(), UUIDs{10, 0, [2]uint64{30, 40}}},
		{"role", UUIDs{Current: 10}.WithRole(true).WithRole(true), UUIDs{Current: 11}},
		{"no role", UUIDs{Current: 11}.WithRole(false), UUIDs{Current: 10}},
		{"adopt", u.Adopt(0x101, false), UUIDs{0x100, 0, [2]uint64{30, 40}}},
		{"renewed", counting.Renew(0xA00_00000A00, true), UUIDs{0x700_00000A01, 20, [2]uint64{30, 0x700_00000100}}},
		{"renewed again", counting.Renew(0xA00_00000A00, true).Renew(0xB00_00000B00, false), UUIDs{0x700_00000B00, 20, [2]uint64{30, 0x700_00000100}}},
		{"renewed with the same number", counting.Renew(0x100, true), UUIDs{0x700_00000103, 20, [2]uint64{30, 0x700_00000100}}},
		{"renewed, and nothing is counted", UUIDs{Current: 11}.Renew(0x100, false), UUIDs{Current: 0x100, Bitmap: 11}},
		{"renewed, and the peer has nothing", UUIDs{Current: 11, Bitmap: JustCreated}.Renew(0x100, false), UUIDs{Current: 0x100, Bitmap: 11}},
		{"a resync after it", UUIDs{0x700_00000A00, 20, [2]uint64{0x700_00000100, 40}}.ClearBitmap(), UUIDs{0x700_00000A00, 0, [2]uint64{20, 0}}},
		{"first sync", synced, UUIDs{0xF1, 0xF0 + newSyncOffset, [2]uint64{JustCreated, 0}}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	for _, tc := range []struct {
		name      string
		of        UUIDs
		want, got uint64
	}{
		{name: "after a just created bitmap UUID", got: sync, want: 0xF0 + newSyncOffset},
		{name: "without a bitmap UUID", of: UUIDs{Current: 11}, want: 10 + newSyncOffset},
		{name: "of a bitmap UUID", of: UUIDs{Current: 11, Bitmap: 21}, want: 21 + newBitmapOffset},
	} {
		if tc.got == 0 {
			_, tc.got = tc.of.StartSource()
		}
		if tc.got != tc.want {
			t.Errorf("the sync UUID %s is %x, want %x", tc.name, tc.got, tc.want)
		}
	}
}
