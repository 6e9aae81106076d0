package ublktest

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// readWrite writes and reads at random places in all sizes, up to several requests in one call, and compares with a model.
func readWrite(t *testing.T, b *bench) {
	for _, block := range []int{512, 4096} {
		t.Run("block "+strconv.Itoa(block), func(t *testing.T) {
			b := &bench{t: t, subject: b.subject, mode: b.mode}
			d := b.start(ublk.Config{MaxIO: 128 << 10, Geometry: ublk.Geometry{LogicalBlock: block}})
			k := openDisk(t, d.Path(), 0)
			model := make([]byte, diskSize)
			k.wantData(model, 0)
			rnd := rand.New(rand.NewPCG(1, uint64(block)))
			for i := range 150 {
				n := (1 + rnd.IntN(1<<rnd.IntN(10))) * block
				n = min(n, diskMemory)
				off := rnd.Int64N((diskSize-int64(n))/int64(block)+1) * int64(block)
				if i < 2 { // first and last block
					n, off = block, int64(i)*(diskSize-int64(block))
				}
				if i%3 != 2 {
					pattern(model[off:off+int64(n)], uint64(i))
					k.mustWrite(model[off:off+int64(n)], off)
				}
				k.wantData(model[off:off+int64(n)], off)
			}
			k.wantData(model, 0)
			if err := k.write(model[:block], diskSize); err != unix.ENOSPC {
				t.Errorf("a write behind the end answers %v", err)
			}
		})
	}
}

// severalQueues writes through every CPU and reads through another one: each queue has its own descriptors.
func severalQueues(t *testing.T, b *bench) {
	if b.subject.Modes == nil || runtime.NumCPU() < 2 {
		t.Fatal("this check needs two CPUs")
	}
	d := b.start(ublk.Config{Queues: 2, Depth: 8})
	if q := d.Config().Queues; q != 2 {
		t.Fatalf("the driver gives %d queues", q)
	}
	const piece = 64 << 10
	model := make([]byte, diskSize)
	pattern(model, 7)
	var wg sync.WaitGroup
	for w := range 4 {
		k := openDisk(t, d.Path(), 0)
		wg.Go(func() {
			runtime.LockOSThread() // ends with the goroutine, and with it the affinity
			var set unix.CPUSet
			set.Set(w % 2)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Error(err)
			}
			for off := int64(w) * piece; off < diskSize; off += 4 * piece {
				if err := k.write(model[off:off+piece], off); err != nil {
					t.Errorf("write on CPU %d: %v", w%2, err)
					return
				}
				set.Zero()
				set.Set((w + 1) % 2)
				unix.SchedSetaffinity(0, &set)
				if got, err := k.read(piece, off); err != nil || !bytes.Equal(got, model[off:off+piece]) {
					t.Errorf("read on CPU %d of what was written on CPU %d: %v, or other data", (w+1)%2, w%2, err)
					return
				}
			}
		})
	}
	wg.Wait()
	openDisk(t, d.Path(), 0).wantData(model, 0)
}

// discard checks discards and write-zeroes, and that sizes beyond 31 bits work.
func discard(t *testing.T, b *bench) {
	d := b.start(ublk.Config{Geometry: ublk.Geometry{MaxDiscard: 4 << 30, MaxWriteZeroes: 4 << 30}})
	k := openDisk(t, d.Path(), 0)
	model := make([]byte, 4*mib)
	pattern(model, 3)
	k.mustWrite(model, 0)
	for _, c := range []struct {
		name   string
		req    uintptr
		op     ublk.Op
		off, n int64
		zeroes bool
	}{
		{"discard one block", blkDiscard, ublk.OpDiscard, 4096, 512, b.subject.Discard},
		{"discard", blkDiscard, ublk.OpDiscard, 64 << 10, mib, b.subject.Discard},
		{"write zeroes", blkZeroOut, ublk.OpWriteZeroes, 2*mib + 512, 300<<10 + 512, true},
		{"write one block of zeroes", blkZeroOut, ublk.OpWriteZeroes, 3*mib + 1024, 512, true},
	} {
		var err error
		log := d.watch.during(func() { err = k.rangeIoctl(c.req, c.off, c.n) })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		// A handler that cannot zero without giving up the space fails, and the block layer writes zeroes instead.
		if len(log) == 0 || log[0].op != c.op || log[0].off != c.off || log[0].len != c.n {
			t.Errorf("%s of %s arrives as %+v", c.name, describe(c.off, c.n), log)
		}
		if c.zeroes {
			clear(model[c.off : c.off+c.n])
			k.wantData(model, 0)
		}
	}
	hugeDiscard(t, b)
}

// hugeDiscard answers everything with success: only the counts matter.
func hugeDiscard(t *testing.T, b *bench) {
	h := b.create(ublk.Config{Geometry: ublk.Geometry{MaxDiscard: 4 << 30, MaxWriteZeroes: 4 << 30}})
	if err := h.Resize(timeLimit(t), hugeSize); err != nil {
		t.Fatal(err)
	}
	h.handlers = func(*ublk.Device, int, *uring.Ring) (ublk.Handler, error) {
		return ublk.HandlerFunc(func(r *ublk.Request) { r.Complete(nil) }), nil
	}
	h.start()
	k := openDisk(t, h.Path(), 0)
	for _, req := range []uintptr{blkDiscard, blkZeroOut} {
		var err error
		log := h.watch.during(func() { err = k.rangeIoctl(req, mib, bigDiscard) })
		sum := int64(0)
		for _, s := range log {
			sum += s.len
		}
		if err != nil || sum != bigDiscard {
			t.Errorf("ioctl %#x of %d bytes: %v, handler saw %d", req, int64(bigDiscard), err, sum)
		}
	}
}
