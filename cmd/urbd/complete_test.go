package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	b := newBench(t)
	words := func(line string) []string { return strings.Fields(b.urbd(line + " --generate-bash-completion").out) }
	for _, verb := range []string{"primary", "create-md", "status", "wait-sync"} {
		if got := words(""); !slices.Contains(got, verb) || slices.Contains(got, "udev") {
			t.Errorf("commands: %v have no %s", got, verb)
		}
	}
	got := words("primary")
	for _, want := range []string{"all", "r0", "r0/0", "r0/1", "r1", "--force", "--timeout"} {
		if !slices.Contains(got, want) {
			t.Errorf("primary: %v has no %s", got, want)
		}
	}
	if got := words("primary r0 --force"); slices.Contains(got, "r0") || !slices.Contains(got, "r1") {
		t.Errorf("primary r0: %v", got)
	}
	if got := words("version"); slices.Contains(got, "r0") {
		t.Errorf("version: %v", got)
	}
}
