package volatile

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

const testSectors = 64

func openTest(t interface{ Fatal(...any) }, dir string, seed uint64) (*Disk, string) {
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, make([]byte, testSectors*SectorSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, seed)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

// The disk against a model of what each sector may hold after a cut: what was
// flushed last, or anything written since.
func TestCutKeepsWhatWasFlushed(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		d, path := openTest(t, dir, rapid.Uint64().Draw(t, "seed"))
		var now [testSectors]byte
		var may [testSectors][]byte
		for i := range may {
			may[i] = []byte{0}
		}
		settle := func(i int64) { may[i] = []byte{now[i]} }
		write := func(t *rapid.T) (data []byte, first, n int64) {
			first = rapid.Int64Range(0, testSectors-1).Draw(t, "first")
			n = rapid.Int64Range(1, testSectors-first).Draw(t, "n")
			return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(n)*SectorSize), first, n
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				data, first, n := write(t)
				if err := d.Write(data, first*SectorSize); err != nil {
					t.Fatal(err)
				}
				for i := first; i < first+n; i++ {
					now[i] = data[0]
					may[i] = append(may[i], data[0])
				}
			},
			"fua": func(t *rapid.T) {
				data, first, n := write(t)
				if err := d.WriteFUA(data, first*SectorSize); err != nil {
					t.Fatal(err)
				}
				for i := first; i < first+n; i++ {
					now[i] = data[0]
					settle(i)
				}
			},
			"zero": func(t *rapid.T) {
				_, first, n := write(t)
				if err := d.Zero(first*SectorSize, n*SectorSize); err != nil {
					t.Fatal(err)
				}
				for i := first; i < first+n; i++ {
					now[i] = 0
					settle(i)
				}
			},
			"flush": func(t *rapid.T) {
				if err := d.Flush(); err != nil {
					t.Fatal(err)
				}
				for i := range int64(testSectors) {
					settle(i)
				}
			},
			"cut": func(t *rapid.T) {
				if _, _, err := d.Cut(); err != nil {
					t.Fatal(err)
				}
				file, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range int64(testSectors) {
					now[i] = file[i*SectorSize]
					if !bytes.Contains(may[i], []byte{now[i]}) {
						t.Fatalf("sector %d holds %d after the cut, one of %d expected", i, now[i], may[i])
					}
					settle(i)
				}
			},
			"": func(t *rapid.T) {
				got := make([]byte, testSectors*SectorSize)
				if err := d.Read(got, 0); err != nil {
					t.Fatal(err)
				}
				for i := range testSectors {
					if want := bytes.Repeat(now[i:i+1], SectorSize); !bytes.Equal(got[i*SectorSize:(i+1)*SectorSize], want) {
						t.Fatalf("sector %d reads %d, want %d", i, got[i*SectorSize], now[i])
					}
				}
			},
		})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A cut that never lost anything would make every test on such a disk pass.
func TestCutsLose(t *testing.T) {
	d, _ := openTest(t, t.TempDir(), 7)
	defer d.Close()
	var lostAll, lostSome, lostNone int
	for range 100 {
		if err := d.Write(bytes.Repeat([]byte{1}, testSectors*SectorSize), 0); err != nil {
			t.Fatal(err)
		}
		lost, kept, err := d.Cut()
		switch {
		case err != nil || lost+kept != testSectors:
			t.Fatalf("%d lost, %d kept, %v", lost, kept, err)
		case kept == 0:
			lostAll++
		case lost == 0:
			lostNone++
		default:
			lostSome++
		}
	}
	if lostAll < 10 || lostSome < 10 || lostNone < 10 {
		t.Errorf("of 100 cuts %d lost everything, %d something, %d nothing", lostAll, lostSome, lostNone)
	}
}

func TestServerSpeaksNBD(t *testing.T) {
	dir := t.TempDir()
	d, _ := openTest(t, dir, 1)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(d, l)
	conn, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(fields ...any) {
		t.Helper()
		for _, f := range fields {
			if err := binary.Write(conn, binary.BigEndian, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(fields ...any) {
		t.Helper()
		var b bytes.Buffer
		for _, f := range fields {
			if err := binary.Write(&b, binary.BigEndian, f); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, b.Len())
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, b.Bytes()) {
			t.Fatalf("got %x, want %x: %v", got, b.Bytes(), err)
		}
	}
	want([]byte("NBDMAGICIHAVEOPT"), uint16(3))
	put(uint32(3))
	put([]byte("IHAVEOPT"), uint32(8), uint32(0)) // structured replies: not here
	want(uint64(0x3e889045565a9), uint32(8), uint32(0x80000001), uint32(0))
	put([]byte("IHAVEOPT"), uint32(7), uint32(6), uint32(0), uint16(0))
	want(uint64(0x3e889045565a9), uint32(7), uint32(3), uint32(12), uint16(0), uint64(testSectors*SectorSize), uint16(0x6d))
	want(uint64(0x3e889045565a9), uint32(7), uint32(3), uint32(14), uint16(3), uint32(512), uint32(4096), uint32(32<<20))
	want(uint64(0x3e889045565a9), uint32(7), uint32(1), uint32(0))

	data := bytes.Repeat([]byte("urbd"), 256)
	put(uint32(0x25609513), uint16(0), uint16(1), uint64(11), uint64(512), uint32(1024), data)
	want(uint32(0x67446698), uint32(0), uint64(11))
	put(uint32(0x25609513), uint16(0), uint16(0), uint64(12), uint64(512), uint32(1024))
	want(uint32(0x67446698), uint32(0), uint64(12), data)
	for i, bad := range [][2]uint64{{testSectors * SectorSize, 512}, {1 << 63, 512}, {100, 512}, {0, 100}, {^uint64(511), 1024}} {
		put(uint32(0x25609513), uint16(0), uint16(0), uint64(i), bad[0], uint32(bad[1]))
		want(uint32(0x67446698), uint32(22), uint64(i))
	}
	put(uint32(0x25609513), uint16(0), uint16(4), uint64(13), uint64(512), uint32(512))
	want(uint32(0x67446698), uint32(0), uint64(13))
	put(uint32(0x25609513), uint16(0), uint16(3), uint64(14), uint64(0), uint32(0))
	want(uint32(0x67446698), uint32(0), uint64(14))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the server is closed and still talks")
	}
	got := make([]byte, 2048)
	if err := d.Read(got, 0); err != nil || !bytes.Equal(got[512:1536], append(make([]byte, 512), data[512:]...)) {
		t.Errorf("after writing and trimming: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
