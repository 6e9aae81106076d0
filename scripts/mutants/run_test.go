package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMemoryOfATestIsBounded: a mutation that makes a test grow without end is noticed, before the machine is out of memory.
func TestMemoryOfATestIsBounded(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "pkg"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nulimit -v\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := &bench{tree: tree{root: root}}
	out, failed, err := b.run(t.Context(), program, "pkg")
	if err != nil || failed || string(out) != "8388608\n" {
		t.Fatalf("%s, failed %t, %v", out, failed, err)
	}
}
