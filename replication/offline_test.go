package replication

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

func internal(t *testing.T, size int64) *config.Volume {
	return &config.Volume{Disk: file(t, size), MetaDisk: config.MetaDisk{Internal: true, Index: -1}}
}

// putFlags changes the flags of the superblock.
func putFlags(t *testing.T, v *config.Volume, flags metadata.Flags) {
	t.Helper()
	o, err := openOffline(v)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	at, sb, err := o.find(v)
	if err != nil {
		t.Fatal(err)
	}
	sb.Flags = flags
	block := make([]byte, metadata.BlockSize)
	sb.Encode(block)
	if err := o.put(metadata.Write{Off: at, Len: metadata.BlockSize, Data: block}); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsNoDisk: opening a pipe would wait for somebody who writes into it.
func TestWhatIsNoDisk(t *testing.T) {
	pipe := t.TempDir() + "/pipe"
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	go func() {
		_, err := ReadSuperblock(&config.Volume{Disk: pipe, MetaDisk: config.MetaDisk{Internal: true, Index: -1}})
		said <- err
	}()
	select {
	case err := <-said:
		if err == nil || !strings.Contains(err.Error(), "is a named pipe; a block device or a regular file is needed") {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody to write into the pipe")
	}
}

// TestApplyAL lets a Primary crash with two hot extents.
func TestApplyAL(t *testing.T) {
	const size = 64 << 20
	v := internal(t, size)
	if err := CreateMD(v, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := metadata.Place(metadata.Internal, 0, size, size)
	if err != nil {
		t.Fatal(err)
	}
	crash := func(mutilate bool) {
		sb, err := ReadSuperblock(v)
		if err != nil {
			t.Fatal(err)
		}
		sb.Clean, sb.LastAgreedSize = false, l.DataLimit
		sb.Flags |= metadata.PrimaryInd | metadata.Consistent
		al := bitmap.NewActivityLog(l.Slots(1237))
		al.Stage(2, 2)
		al.Stage(15, 15)
		tr, ok := al.Begin()
		if !ok {
			t.Fatal("nothing to log")
		}
		block, super := make([]byte, metadata.BlockSize), make([]byte, metadata.BlockSize)
		metadata.EncodeTransaction(block, 0, tr)
		sb.Encode(super)
		o, err := openOffline(v)
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		err = errors.Join(
			o.put(metadata.Write{Off: l.ALBlockOffset(0), Len: metadata.BlockSize, Data: block}),
			o.put(metadata.Write{Off: l.Superblock, Len: metadata.BlockSize, Data: super}))
		if mutilate {
			err = errors.Join(err, o.put(metadata.Write{Off: l.AL, Len: l.Superblock - l.AL}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	crash(false)
	got, err := ApplyAL(v)
	if err != nil || !got.Needed || got.Hot != 2 || got.Full || got.Verdict != metadata.Replayed {
		t.Fatalf("%+v %v", got, err)
	}
	bits := dirtyBits(t, v, l)
	last := l.DataLimit/bitmap.BlockSize - 15*1024 // extent 15 is cut by the end of the data
	if want := 1024 + last; bits != want {
		t.Errorf("%d bits are set, want %d", bits, want)
	}
	if got, err := ApplyAL(v); err != nil || got.Needed {
		t.Errorf("applied twice: %+v %v", got, err)
	}
	if sb, err := ReadSuperblock(v); err != nil || sb.NeedsReplay() || !sb.Flags.Has(metadata.PrimaryInd) {
		t.Errorf("superblock afterwards: %+v %v", sb, err)
	}
	crash(true)
	if got, err := ApplyAL(v); err != nil || !got.Full {
		t.Errorf("with an unreadable log: %+v %v", got, err)
	}
	if sb, err := ReadSuperblock(v); err != nil || !sb.Flags.Has(metadata.FullSync) {
		t.Errorf("with an unreadable log: %+v %v", sb, err)
	}
}

// dirtyBits reads the bitmap from the disk.
func dirtyBits(t *testing.T, v *config.Volume, l metadata.Layout) int64 {
	t.Helper()
	f, err := os.ReadFile(v.Disk)
	if err != nil {
		t.Fatal(err)
	}
	b := bitmap.New(l.DataLimit)
	for p := range b.Pages() {
		b.LoadPage(p, f[l.BitmapPageOffset(p):][:bitmap.PageSize])
	}
	var dump bytes.Buffer
	if err := DumpMD(&dump, v); err != nil || !strings.Contains(dump.String(), `version "v08";`) {
		t.Errorf("dump-md: %v", err)
	}
	return b.Count()
}
