//go:build rig

package vm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Guests that a test leaves behind, and the goroutines that serve them, fail the run.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	end := time.Now().Add(30 * time.Second)
	for runtime.NumGoroutine() > before || len(children()) > 0 {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "left behind: processes %v, goroutines:\n%s\n", children(), stacks[:runtime.Stack(stacks, true)])
			os.Exit(1)
		}
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(code)
}

// children are the processes whose parent is this one.
func children() []string {
	var all []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat) // gone meanwhile: nobody's child
		_, rest, _ := strings.Cut(string(text), ") ")
		if words := strings.Fields(rest); len(words) > 1 && words[1] == strconv.Itoa(os.Getpid()) {
			all = append(all, filepath.Base(filepath.Dir(stat)))
		}
	}
	return all
}
