package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A second guest gets the program of the first, also when the first one's files are gone.
func TestProgramsAreBuiltOnce(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "bin"), filepath.Join(t.TempDir(), "bin")
	files, err := BuildPackages(t.Context(), first, "./scripts/vm/agent")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(files["/usr/local/bin/agent"])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "") // there is no go tool any more
	files, err = BuildPackages(t.Context(), second, "./scripts/vm/agent")
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(files["/usr/local/bin/agent"])
	if err != nil || !bytes.Equal(program, again) {
		t.Errorf("%d bytes, then %d, %v", len(program), len(again), err)
	}
	if info, err := os.Stat(files["/usr/local/bin/agent"]); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("it cannot be run: %v, %v", info, err)
	}
}
