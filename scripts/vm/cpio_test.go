package vm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// member is one entry as an independent reading of the format finds it.
type member struct {
	mode uint64
	data string
}

// readCpio reads archives laid end to end, as the kernel does.
func readCpio(t *testing.T, b []byte) (names []string, members map[string]member) {
	t.Helper()
	members = map[string]member{}
	for off := 0; off < len(b); {
		if b[off] == 0 { // between archives
			off++
			continue
		}
		if off%4 != 0 || string(b[off:off+6]) != "070701" {
			t.Fatalf("no header at %d", off)
		}
		var f [13]uint64
		for i := range f {
			v, err := strconv.ParseUint(string(b[off+6+8*i:off+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = v
		}
		mode, size, nameSize := f[1], int(f[6]), int(f[11])
		name := string(b[off+110 : off+110+nameSize-1])
		data := (off + 110 + nameSize + 3) &^ 3
		off = (data + size + 3) &^ 3
		if name == "TRAILER!!!" {
			continue
		}
		names = append(names, name)
		members[name] = member{mode, string(b[data : data+size])}
	}
	return names, members
}

func TestCpio(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(file, []byte("#!x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	c := newCpioWriter(&buf)
	for _, err := range []error{
		c.bytes("/etc/a/name", 0o644, "text"), c.symlink("bin", "usr/bin"), c.copyFile("usr/bin/tool", file),
		c.dir("etc", 0o700), c.bytes("empty", 0o600, ""), c.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if buf.Len()%512 != 0 {
		t.Errorf("an archive of %d bytes cannot be followed by another", buf.Len())
	}
	if err := c.bytes("bin", 0o644, "x"); err == nil {
		t.Error("two members of one name")
	}
	second := newCpioWriter(&buf)
	if err := second.bytes("etc/a/name", 0o644, "newer"); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	names, got := readCpio(t, buf.Bytes())
	for name, want := range map[string]member{
		"etc": {0o040755, ""}, "etc/a": {0o040755, ""}, "etc/a/name": {0o100644, "newer"}, "bin": {0o120777, "usr/bin"},
		"usr/bin/tool": {0o104755, "#!x"}, "empty": {0o100600, ""},
	} {
		if got[name] != want {
			t.Errorf("%s: %o %q", name, got[name].mode, got[name].data)
		}
	}
	if fmt.Sprint(names[:3]) != "[etc etc/a etc/a/name]" {
		t.Errorf("a file before its directory: %s", strings.Join(names, " "))
	}
}
