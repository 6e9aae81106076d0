package scripts_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestScriptsLookForGo runs every script that needs Go where sudo leaves one: in a PATH without it, and without the place
// that Go's own archive is unpacked to.
func TestScriptsLookForGo(t *testing.T) {
	for _, name := range []string{"rig", "demo", "test", "bench", "soak", "check", "install"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "PATH=$PATH:/usr/local/go/bin") {
			t.Errorf("%s does not look into /usr/local/go/bin", name)
		}
		elsewhere := strings.ReplaceAll(string(text), "/usr/local/go/bin", "/nonexistent")
		cmd := exec.Command("bash", "-s", "--", "--destdir", t.TempDir())
		if name != "install" {
			cmd.Args = cmd.Args[:2]
		}
		cmd.Env = []string{"PATH=" + tools(t)}
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(elsewhere, `"${BASH_SOURCE[0]}"`, `./x`))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), name+": no go ") {
			t.Errorf("%s without Go: %v, %s", name, err, out)
		}
	}
}

// tools is a directory with the few programs that the scripts call before they look for Go.
func tools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"dirname", "id", "mktemp", "rm"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, dir+"/"+name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
