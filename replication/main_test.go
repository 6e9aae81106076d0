package replication

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain looks for goroutines and descriptors that the tests have left behind.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close() // from now on Go's poller has its descriptors
	}
	before := descriptors()
	code := m.Run()
	for _, fd := range pipes.gone {
		unix.Close(fd)
	}
	if code == 0 {
		code = leaks(before)
	}
	os.Exit(code)
}

func descriptors() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// leaks gives what ends by itself, like an idle connection, some time to do so.
func leaks(before int) int {
	var fds, goroutines int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		fds, goroutines = descriptors()-before, runtime.NumGoroutine()-1
		if fds <= 0 && goroutines <= 1 { // signal handling may have a goroutine
			return 0
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	fmt.Fprintf(os.Stderr, "left behind: %d descriptors, %d goroutines\n%s\n", fds, goroutines, stacks)
	for _, fd := range must(os.ReadDir("/proc/self/fd")) {
		name, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		fmt.Fprintln(os.Stderr, fd.Name(), name)
	}
	return 1
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
