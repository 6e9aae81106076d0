package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func (b *bench) disk(name string, size int64) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	f, err := os.Create(path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func TestMetadataOfAFile(t *testing.T) {
	b := newBench(t)
	disk := b.disk("e.img", 8<<20)
	b.want("get-gi r1", 255, "", "new metadata is made by: urbd create-md r1/0\n")
	b.want("create-md r1", 0, "r1/0: new metadata block successfully created on "+disk+" (internal)\n", "")
	b.want("get-gi r1", 0, "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n", "")
	b.want("show-gi r1/0", 0, "flags: Secondary, StandAlone, Inconsistent", "")
	b.want("dstate r1", 0, "Inconsistent/DUnknown\n", "")
	b.want("dump-md r1", 0, "version \"v08\";", "")
	b.want("apply-al r1", 0, "r1/0: the activity log is clean, nothing to do\n", "")

	b.in = "no\n"
	b.want("create-md r1", 1, "", "it will be overwritten.\nDo you really want to create new metadata?\n[need to type 'yes' to confirm]")
	b.in = ""
	b.want("create-md r1", 1, "", "not confirmed, nothing was changed")
	b.in = "yes\n"
	b.want("create-md r1", 0, "successfully created", "metadata of DRBD 8.4")
	b.in = ""
	b.want("create-md r1 --force", 0, "successfully created", "")

	b.want("wipe-md r1", 1, "", "[need to type 'yes' to confirm]")
	b.want("wipe-md --force r1", 0, "r1/0: metadata wiped from "+disk, "")
	b.want("wipe-md r1", 0, "r1/0: there is no metadata to wipe on "+disk, "")
	b.want("dump-md r1", 255, "", "no DRBD metadata found")
}

func TestMetadataOfSeveralVolumes(t *testing.T) {
	b := newBench(t)
	b.disk("a.img", 4<<20)
	b.want("create-md r0", 20, "r0/0: new metadata", "urbd: r0/1: ")
	b.disk("b.img", 4<<20)
	b.want("create-md r0/1", 0, "r0/1: new metadata", "")
	if got := b.urbd("get-gi r0"); got.code != 0 || strings.Count(got.out, "\n") != 2 {
		t.Errorf("get-gi of two volumes: %+v", got)
	}
}

func TestOneAnswerForEveryVolume(t *testing.T) {
	b := newBench(t)
	b.disk("a.img", 4<<20)
	b.disk("b.img", 4<<20)
	b.want("create-md r0", 0, "r0/1: new metadata", "")
	b.in = "yes\nyes\n"
	b.want("create-md r0", 0, "r0/1: new metadata", "[need to type 'yes' to confirm]")
	b.in = "yes\nno\n"
	if got := b.urbd("wipe-md r0"); got.code != 1 || got.out != "r0/0: metadata wiped from "+filepath.Join(b.dir, "a.img")+" (internal)\n" {
		t.Errorf("%+v", got)
	}
}

// The clock stands still while the disks are looked at: the time is up only when the question waits.
func TestAQuestionWaitsNoLongerThanTheCommand(t *testing.T) { synctest.Test(t, askedInVain) }

func askedInVain(t *testing.T) {
	b := newBench(t)
	b.disk("a.img", 4<<20)
	b.disk("b.img", 4<<20)
	b.want("create-md r0", 0, "r0/1: new metadata", "")
	silent, nobody := io.Pipe()
	defer nobody.Close()
	b.stdin = silent
	got := b.urbd("create-md r0 --timeout 50ms")
	if got.code != 1 || got.out != "" || strings.Count(got.err, "type 'yes'") != 1 || !strings.Contains(got.err, "urbd: r0/0: nobody has confirmed in time, nothing was changed") {
		t.Errorf("%+v", got)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	b.stdin = io.MultiReader(readerFunc(func([]byte) (int, error) { interrupt(); return 0, io.EOF }), silent)
	if got := b.urbdContext(ctx, "wipe-md r0"); got.code != 1 || !strings.Contains(got.err, "interrupted before it was confirmed, nothing was changed") {
		t.Errorf("%+v", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestMetadataThatWasCutOff(t *testing.T) {
	b := newBench(t)
	disk := b.disk("e.img", 8<<20)
	b.want("create-md r1", 0, "successfully created", "")
	if err := os.Truncate(disk, 7<<20); err != nil {
		t.Fatal(err)
	}
	b.want("get-gi r1", 255, "", "no DRBD metadata found")
	if err := os.Truncate(disk, 4096); err != nil {
		t.Fatal(err)
	}
	b.want("create-md r1", 10, "", "4096 bytes cannot hold internal metadata (use a device of at least 1 MiB)")
	if err := os.Remove(disk); err != nil {
		t.Fatal(err)
	}
	b.want("create-md r1", 20, "", "does not exist")
}

func TestMetadataOfADiskInUse(t *testing.T) {
	b := newBench(t)
	b.disk("e.img", 8<<20)
	b.want("create-md r1", 0, "successfully created", "")
	hold, err := lockFile(filepath.Join(b.dir, "e.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	b.want("create-md r1 --force", 20, "", "is in use")
	b.listen("r1", &fakeControl{})
	b.want("create-md r1 --force", 20, "", "r1 is up, take it down first: urbd down r1")
}

func TestAFileSystemIsNotOverwritten(t *testing.T) {
	b := newBench(t)
	disk := b.disk("e.img", 8<<20)
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The superblock of ext4 at 1024: 7 MiB in blocks of 1 KiB, the magic.
	for off, bytes := range map[int64][]byte{1024 + 4: {0, 0x1c, 0, 0}, 1024 + 0x38: {0x53, 0xef}, 1024 + 0x60: {0x42, 0, 0, 0}} {
		if _, err := f.WriteAt(bytes, off); err != nil {
			t.Fatal(err)
		}
	}
	b.in = "no\n"
	b.want("create-md r1", 1, "", "an ext")
	b.want("get-gi r1", 255, "", "no DRBD metadata found")
}
