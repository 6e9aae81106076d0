package replication

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// The logical block size of data is remembered for its disk, and for no other one; a file that cannot be read is said and counts
// for nothing.
func TestDataBlockIsRemembered(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	n.must(engine.Promote{Force: true})
	n.must(engine.Demote{})
	n.down()
	path := n.res.blocks.path(0)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"logical-block-size":512`) {
		t.Fatalf("%s: %s, %v", path, text, err)
	}
	larger := strings.Replace(string(text), ":512", ":4096", 1)
	for _, c := range []struct {
		name, text string
		block      int64
	}{
		{"larger", larger, 4096},
		{"of another disk", `{"device-uuid":"0000000000000001","logical-block-size":4096}`, 512},
		{"no size", strings.Replace(larger, "4096", "4095", 1), 512},
		{"empty", "", 512},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.up()
		st, err := n.res.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Volumes[0].BlockSize; got != c.block {
			t.Errorf("%s: %q: logical blocks of %d bytes, want %d", c.name, c.text, got, c.block)
		}
		n.down()
	}
}

// A hungDir is a state directory that does not answer until it is released.
type hungDir struct {
	asked   chan string // paths
	release chan struct{}
}

func newHungDir() hungDir { return hungDir{make(chan string, 100), make(chan struct{})} }

func (h hungDir) read(path string) ([]byte, error) {
	h.asked <- path
	<-h.release
	return nil, fs.ErrNotExist
}

func (h hungDir) write(path string, content []byte) error {
	h.asked <- string(content)
	<-h.release
	return nil
}

// told has what was logged, line by line.
type told chan string

func (l told) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// A state directory that hangs does not hold the events of a resource up.
func TestStateDirHangsBesideEvents(t *testing.T) {
	cfg := newNodes(t, nil)[0].cfg
	said, dir := make(told, 100), newHungDir()
	cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.blocks.write = dir.write
	stop, handled := make(chan struct{}), make(chan struct{})
	go func() { defer close(handled); r.handleEvents(stop) }()
	defer func() { close(stop); <-handled; r.blocks.end() }()
	defer close(dir.release)
	r.events.put(engine.RememberBlockSize{Vol: 0, DeviceUUID: 1, Size: 512})
	<-dir.asked
	r.events.put(engine.Notice{Vol: 0, Text: "the resource goes on"})
	for late := time.After(20 * time.Second); ; {
		select {
		case line := <-said:
			if strings.Contains(line, "the resource goes on") {
				return
			}
		case <-late:
			t.Fatal("no event is handled while the state directory hangs")
		}
	}
}

// While a record is being written, only the last value of a volume waits; the end waits for all of it.
func TestDataBlocksKeepTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newHungDir()
		d := newDataBlocks(t.TempDir(), "r0", slog.New(slog.DiscardHandler))
		d.write = func(path string, content []byte) error {
			dir.write(path, content)
			return WriteRecord(path, content, 0o644)
		}
		for _, size := range []int64{512, 1024, 2048, 4096} {
			d.remember(engine.RememberBlockSize{Vol: 0, DeviceUUID: 7, Size: size})
			synctest.Wait()
		}
		d.remember(engine.RememberBlockSize{Vol: 1, DeviceUUID: 8, Size: 512})
		if b := d.of(t.Context(), 0); b != (dataBlock{7, 4096}) {
			t.Errorf("while it is being written: %+v", b)
		}
		time.AfterFunc(stateLimit/2, func() { close(dir.release) })
		d.end()
		if n := len(dir.asked); n != 3 {
			t.Errorf("%d writes, want the first and the last value of volume 0, and that of volume 1", n)
		}
		again := newDataBlocks(d.dir, "r0", d.log)
		for vol, want := range []dataBlock{{7, 4096}, {8, 512}} {
			if b := again.of(t.Context(), vol); b != want {
				t.Errorf("volume %d: %+v, want %+v", vol, b, want)
			}
		}
	})
}

// The end has a bound, and says what is not written.
func TestDataBlocksEndWithoutTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := newHungDir()
		d := newDataBlocks("/var/lib/urbd", "r0", slog.New(slog.NewTextHandler(&log, nil)))
		d.write = dir.write
		d.remember(engine.RememberBlockSize{Vol: 0, DeviceUUID: 7, Size: 512})
		d.remember(engine.RememberBlockSize{Vol: 1, DeviceUUID: 8, Size: 4096})
		began := time.Now()
		d.end()
		if took := time.Since(began); took != stateLimit {
			t.Errorf("the end took %v", took)
		}
		for _, want := range []string{"device=r0/0", "device=r0/1", "size=4096", "/var/lib/urbd has not answered for 5s"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, log.String())
			}
		}
		close(dir.release)
	})
}

// A write that fails is said, and the next value is tried all the same.
func TestDataBlocksSayWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := newDataBlocks("/var/lib/urbd", "r0", slog.New(slog.NewTextHandler(&log, nil)))
		writes := 0
		d.write = func(string, []byte) error { writes++; return fs.ErrPermission }
		for n := 1; n <= 2; n++ {
			d.remember(engine.RememberBlockSize{Vol: 0, DeviceUUID: 7, Size: 512})
			d.end()
			if lines := strings.Count(log.String(), "permission denied"); writes != n || lines != n {
				t.Errorf("%d writes, said:\n%s\nwant %d", writes, log.String(), n)
			}
		}
	})
}

// An attach does not wait for a state directory that hangs beyond a bound, and there is one read of a record at a time.
func TestDataBlocksReadWithinABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := newHungDir()
		d := newDataBlocks("/var/lib/urbd", "r0", slog.New(slog.NewTextHandler(&log, nil)))
		d.read = dir.read
		for range 2 {
			began := time.Now()
			if b := d.of(t.Context(), 0); b != (dataBlock{}) || time.Since(began) != stateLimit {
				t.Errorf("after %v: %+v", time.Since(began), b)
			}
		}
		if n := strings.Count(log.String(), "/var/lib/urbd has not answered for 5s"); n != 2 || len(dir.asked) != 1 {
			t.Errorf("%d reads; said %d times:\n%s", len(dir.asked), n, log.String())
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("nobody waits"))
		if _, err := d.find(gone, 0); err == nil || err.Error() != "nobody waits" {
			t.Errorf("an order that has ended: %v", err)
		}
		close(dir.release)
		if b, err := d.find(t.Context(), 0); b != (dataBlock{}) || err != nil {
			t.Errorf("when it answers again: %+v, %v", b, err)
		}
	})
}
