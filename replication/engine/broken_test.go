package engine

import (
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
)

// TestConversationsOnBrokenMetadata: conversations on a disk whose superblock, bitmap and activity log say anything that their formats can. It is
// refused or it is served, and all that TestConversations asks for holds. URBD_BROKEN is how many there are.
func TestConversationsOnBrokenMetadata(t *testing.T) {
	image, room, err := conversationImage()
	if err != nil {
		t.Fatal(err)
	}
	many := 400
	if s := os.Getenv("URBD_BROKEN"); s != "" {
		if many, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	served := 0
	for seed := range uint64(many) {
		r := rand.New(rand.NewPCG(seed, 9))
		b := broken{r, append([]byte(nil), image...), room}
		b.superblock()
		b.bitmap()
		b.log()
		script := make([]byte, 20+r.IntN(300))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		func() {
			defer func() {
				if why := recover(); why != nil {
					t.Errorf("seed %d: %v\n%s", seed, why, debug.Stack())
				}
			}()
			c, err := newConversation(b.disk, room, script)
			if err != nil {
				t.Fatal(err)
			}
			c.start(byte(1 + r.IntN(7)))
			if c.e.vols[0].attached {
				served++
			}
			for len(c.script) > 0 {
				c.step()
			}
			c.end()
		}()
	}
	if served < many/10 || served > many*9/10 {
		t.Errorf("of %d disks %d were served: one of the two ways is hardly tried", many, served)
	}
}

// broken is a disk with metadata of which nothing need be true.
type broken struct {
	*rand.Rand
	disk []byte
	room metadata.Layout
}

// some is a number of any magnitude.
func (b *broken) some() uint32 { return b.Uint32() >> b.IntN(32) }

func (b *broken) uuid() uint64 {
	known := []uint64{0, 1, metadata.JustCreated, metadata.JustCreated | 1, 77 << 8, 77<<8 | 1, 78 << 8, 4321 << 8, 1001 << 8, ^uint64(0)}
	if i := b.IntN(len(known) + 2); i < len(known) {
		return known[i]
	}
	return b.Uint64()
}

func (b *broken) superblock() {
	at := b.disk[b.room.Superblock:][:metadata.BlockSize]
	sb, err := metadata.DecodeSuperblock(at)
	if err != nil {
		panic(err)
	}
	sb.Current, sb.Bitmap, sb.History, sb.DeviceUUID = b.uuid(), b.uuid(), [2]uint64{b.uuid(), b.uuid()}, b.uuid()
	sb.Flags, sb.Clean = metadata.Flags(b.some()), b.IntN(2) == 0
	limit := b.room.DataLimit
	sizes := []int64{0, 512, 3584, 4096, limit / 2, limit - 4096, limit - 512, limit, limit + 512, 1 << 30}
	sb.LastAgreedSize = sizes[b.IntN(len(sizes))]
	sb.ALExtents, sb.PeerMaxBIO = b.some(), b.some()
	switch b.IntN(20) {
	case 0:
		sb.Stripes = metadata.Stripes{Count: b.some(), Size4k: b.some()}
	case 1:
		sb.BytesPerBit = b.some()
	case 2:
		sb.BMOffset = int64(int32(b.Uint32())) * 512
	case 3:
		sb.MDSize = int64(b.some()) * 512
	}
	sb.Encode(at)
	if b.IntN(30) == 0 {
		at[b.IntN(96)] ^= 1 << b.IntN(8)
	}
}

func (b *broken) bitmap() {
	area := b.disk[b.room.Bitmap:][:b.room.BitmapSize]
	switch b.IntN(4) {
	case 0:
	case 1:
		for i := range area {
			area[i] = byte(b.Uint32())
		}
	case 2:
		for i := range area {
			area[i] = 0xff
		}
	case 3:
		area[b.IntN(len(area))] = 0xff
	}
}

// log writes blocks of the activity log whose checksums are right, and most of whose slots and extents cannot be.
func (b *broken) log() {
	first := b.Uint32()
	if b.IntN(3) == 0 {
		first = -uint32(b.IntN(10)) // the numbers wrap
	}
	for i := range uint32(b.IntN(10)) {
		sizes := []int{0, 67, 1237, 65535, b.IntN(1 << 16)}
		tr := bitmap.Transaction{Slots: sizes[b.IntN(len(sizes))], ContextStart: uint16(b.some())}
		for range b.IntN(bitmap.MaxUpdates + 1) {
			tr.Updates = append(tr.Updates, bitmap.Update{Slot: uint16(b.some()), Extent: b.some()})
		}
		for range b.IntN(bitmap.ContextSlots + 1) {
			tr.Context = append(tr.Context, b.some())
		}
		at := b.disk[b.room.ALBlockOffset(first+i):][:metadata.BlockSize]
		metadata.EncodeTransaction(at, first+i, tr)
		if b.IntN(8) == 0 {
			at[b.IntN(len(at))] ^= 1 << b.IntN(8) // a torn one
		}
	}
}
