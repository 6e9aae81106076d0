package replication

import (
	"os"
	"strings"
	"testing"

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
	path := n.res.dataBlockPath(0)
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
