// Command recorder runs in a guest: it writes records to a device until it is killed and tells its progress, or checks them.
//
//	recorder --device /dev/ublkb0 --seed 7 --blocks 2048 --workers 4 --from 0,0,0,0 [--sequential] [--sync 8]
//	recorder --device /dev/ublkb0 ... --check '0:1-812 1:1-799'
//
// An error of the device ends it with 1, at once: the device of a replicated resource has none to give.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/lab/records"
)

func main() {
	var plan records.Plan
	device := flag.String("device", "", "block device")
	flag.Uint64Var(&plan.Seed, "seed", 1, "of the records")
	flag.IntVar(&plan.Workers, "workers", 4, "writes at a time")
	flag.Int64Var(&plan.Blocks, "blocks", 2048, "size of the area, in blocks of 4096 bytes")
	flag.BoolVar(&plan.Sequential, "sequential", false, "write one block after the other")
	from := flag.String("from", "", "first write of each worker, less one")
	sync := flag.Uint64("sync", 8, "writes of a worker between two FLUSHes; 0: none")
	check := flag.String("check", "", "read instead, and want these writes: WORKER:FIRST-LAST ...")
	flag.Parse()
	err := run(*device, plan, *from, *sync, *check)
	if err != nil {
		fmt.Fprintln(os.Stderr, "recorder:", err)
		os.Exit(1)
	}
}

func run(device string, plan records.Plan, from string, every uint64, check string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if from == "" {
		return verify(f, plan, check)
	}
	starts := strings.Split(from, ",")
	if len(starts) != plan.Workers {
		return fmt.Errorf("--from names %d of %d workers", len(starts), plan.Workers)
	}
	failed := make(chan error)
	for w, start := range starts {
		first, err := strconv.ParseUint(start, 10, 64)
		if err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		go func() { failed <- write(f, plan, w, first, every) }()
	}
	return <-failed
}

// interval is how often a worker tells what was answered; what a FLUSH made durable it tells at once.
const interval = 50 * time.Millisecond

var output sync.Mutex

func tell(worker int, p records.Progress) error {
	output.Lock()
	defer output.Unlock()
	_, err := os.Stdout.WriteString(p.Line(worker))
	return err
}

// write is one worker. It returns with the first error.
func write(f *os.File, plan records.Plan, worker int, after, every uint64) error {
	buf := aligned(records.BlockSize)
	told := time.Now()
	p := records.Progress{Answered: after, Synced: after}
	for {
		next := p.Answered + 1
		plan.Fill(buf, worker, next)
		if _, err := f.WriteAt(buf, plan.Block(worker, next)*records.BlockSize); err != nil {
			return fmt.Errorf("write %d of worker %d: %w", next, worker, err)
		}
		p.Answered = next
		if every > 0 && next%every == 0 {
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return fmt.Errorf("flush after write %d of worker %d: %w", next, worker, err)
			}
			p.Synced = next
		}
		if p.Synced == next || time.Since(told) > interval {
			told = time.Now()
			if err := tell(worker, p); err != nil {
				return err
			}
		}
	}
}

// aligned is so many bytes as O_DIRECT wants them.
func aligned(size int) []byte {
	b := make([]byte, size+records.BlockSize)
	skip := -uintptr(unsafe.Pointer(&b[0])) & (records.BlockSize - 1)
	return b[skip:][:size:size]
}

// verify checks the area against what a test knows.
func verify(f *os.File, plan records.Plan, check string) error {
	floor := records.Floor{}
	for _, word := range strings.Fields(check) {
		var r records.Run
		if n, err := fmt.Sscanf(word, "%d:%d-%d", &r.Worker, &r.First, &r.Last); n != 3 || err != nil {
			return fmt.Errorf("--check %q: want WORKER:FIRST-LAST", word)
		}
		if r.Worker >= plan.Workers {
			return fmt.Errorf("--check %q: there are %d workers", word, plan.Workers)
		}
		floor.Raise(plan, r)
	}
	if len(floor) == 0 {
		return errors.New("--check names no writes")
	}
	if err := floor.Check(plan, direct{f, aligned(records.PieceSize)}); err != nil {
		return err
	}
	fmt.Printf("%d blocks hold what was confirmed\n", len(floor))
	return nil
}

// direct reads past the page cache.
type direct struct {
	f   *os.File
	buf []byte
}

func (d direct) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.f.ReadAt(d.buf[:len(p)], off)
	return copy(p, d.buf[:n]), err
}
