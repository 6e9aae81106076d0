// Command demo is scripts/demo: two nodes, a replicated disk, a failover, and
// the proof that nothing was lost. It touches nothing of this machine but a
// cache of packages and temporary files.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// bound is how long the whole demonstration may take, downloads included.
const bound = 40 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	s := &stage{began: time.Now()}
	err := play(ctx, s)
	s.verdict(err)
	if err != nil {
		os.Exit(1)
	}
}

// stage is where the demonstration speaks.
type stage struct {
	began time.Time
	step  int
}

// say announces a step.
func (s *stage) say(format string, args ...any) {
	s.step++
	fmt.Printf("\n[%3.0fs] %d. %s\n", time.Since(s.began).Seconds(), s.step, fmt.Sprintf(format, args...))
}

// note adds a detail.
func (s *stage) note(format string, args ...any) {
	fmt.Printf("       %s\n", fmt.Sprintf(format, args...))
}

func (s *stage) verdict(err error) {
	fmt.Printf("\n")
	if err != nil {
		fmt.Printf("FAILED after %.0f seconds: %v\n", time.Since(s.began).Seconds(), err)
		return
	}
	fmt.Printf("PASSED in %.0f seconds: everything that was synced to the disk survived the loss of a node,\n"+
		"and both disks are identical again, byte by byte.\n", time.Since(s.began).Seconds())
}
