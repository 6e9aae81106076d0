package replication

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFiguresOfThePages builds what README and ARCHITECTURE say of how long users wait from what the daemon has.
func TestFiguresOfThePages(t *testing.T) {
	for _, name := range []string{"README.md", "ARCHITECTURE.md"} {
		page, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(string(page)), " ")
		for _, want := range []string{fmt.Sprintf("for %v seconds at most", meetPeer.Seconds()), fmt.Sprintf("for %v where", meetNobody.Seconds())} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say: %s", name, want)
			}
		}
	}
}
