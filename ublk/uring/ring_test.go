package uring

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestManyOperationsThroughASmallQueue(t *testing.T) {
	each(t, Config{Entries: 4, Completions: 8, Slots: 4}, func(t *testing.T, r *Ring) {
		const n = 1000
		var seen [n]bool
		count := 0
		done := CompleterFunc(func(arg uint64, res int32, _ uint32) {
			if seen[arg] || res != 0 {
				t.Errorf("operation %d: result %d, seen before: %v", arg, res, seen[arg])
			}
			seen[arg] = true
			count++
		})
		for i := range n {
			r.Prep(Nop(), done, uint64(i))
		}
		await(t, r, func() bool { return count == n })
	})
}

// A Completer may prepare more than the queue holds, while completions wait.
func TestPrepareInsideCompletion(t *testing.T) {
	each(t, Config{Entries: 4, Completions: 8}, func(t *testing.T, r *Ring) {
		count := 0
		leaf := CompleterFunc(func(uint64, int32, uint32) { count++ })
		for range 8 {
			r.Prep(Nop(), CompleterFunc(func(uint64, int32, uint32) {
				for range 50 {
					r.Prep(Nop(), leaf, 0)
				}
			}), 0)
		}
		await(t, r, func() bool { return count == 400 })
	})
}

func TestDeadline(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		start := time.Now()
		n, err := r.Wait(start.Add(40 * time.Millisecond))
		if d := time.Since(start); n != 0 || err != nil || d < 40*time.Millisecond {
			t.Fatalf("%d, %v after %v", n, err, d)
		}
		start = time.Now()
		if n, err := r.Wait(start.Add(-time.Second)); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		var got result
		r.Prep(Nop(), &got, 0)
		if n, err := r.Wait(start.Add(-time.Second)); n != 1 || err != nil || got.n != 1 {
			t.Fatal("a past deadline does not keep a completion back:", n, err)
		}
	})
}

// No post and no signal is lost while the owner falls asleep and wakes up all the time.
func TestMailboxLosesNothing(t *testing.T) {
	each(t, Config{Mailbox: 64}, func(t *testing.T, r *Ring) {
		const senders, each = 4, 3000
		ran, signalled := 0, 0
		var raised atomic.Int64
		s := r.NewSignal(func() { signalled++; raised.Swap(0) })
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					for r.Post(func() { ran++ }) == ErrFull {
						runtime.Gosched()
					}
					raised.Add(1)
					s.Raise()
				}
			})
		}
		await(t, r, func() bool { return ran == senders*each && raised.Load() == 0 })
		wg.Wait()
		if _, err := r.Wait(time.Now().Add(-1)); err != nil {
			t.Fatal(err)
		}
		if signalled == 0 || raised.Load() != 0 {
			t.Fatalf("%d signals, %d raises not seen", signalled, raised.Load())
		}
	})
}

func TestPostIsBounded(t *testing.T) {
	each(t, Config{Mailbox: 2}, func(t *testing.T, r *Ring) {
		for range 2 {
			if err := r.Post(func() {}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Post(func() {}); err != ErrFull {
			t.Fatal(err)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, Config{Files: 1}, func(t *testing.T, r *Ring) {
		a, _ := socketPair(t)
		slot, err := r.AddFile(a)
		if err != nil {
			t.Fatal(err)
		}
		var one, two, three result
		tok := r.Prep(Recv(FD(a), make([]byte, 1), 0), &one, 0)
		r.Prep(Recv(slot, make([]byte, 1), 0), &two, 0)
		r.Prep(Timeout(time.Hour), &three, 0)
		r.Submit()
		r.Cancel(tok)
		await(t, r, func() bool { return one.n > 0 })
		want(t, "cancelled", one.res, -int32(unix.ECANCELED))
		if two.n+three.n != 0 {
			t.Fatal("others were cancelled too")
		}
		r.CancelFile(slot)
		await(t, r, func() bool { return two.n > 0 })
		want(t, "cancelled by file", two.res, -int32(unix.ECANCELED))
		if r.InFlight() != 1 {
			t.Fatalf("%d in flight", r.InFlight())
		}
		r.Cancel(tok) // its slot belongs to nobody or to somebody else: nothing may happen
		r.CancelAll()
		await(t, r, func() bool { return three.n > 0 })
		want(t, "cancelled with all", three.res, -int32(unix.ECANCELED))
	})
}

// Close completes what is in flight, refuses what comes after, and leaves no descriptor and no mapping.
func TestCloseLeavesNothing(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	a, _ := socketPair(t)
	fds, maps := descriptors(), mappings(t)
	for range 50 {
		r, err := New(Config{Files: 2, Buffers: 2})
		if err != nil {
			t.Fatal(err)
		}
		var got, late result
		r.Prep(Recv(FD(a), make([]byte, 1), 0), CompleterFunc(func(arg uint64, res int32, flags uint32) {
			got.Complete(arg, res, flags)
			r.Prep(Nop(), &late, 0)
		}), 0)
		if err := r.Close(soon()); err != nil {
			t.Fatal(err)
		}
		want(t, "operation at Close", got.res, -int32(unix.ECANCELED))
		want(t, "operation after Close began", late.res, -int32(unix.ECANCELED))
		if got.n != 1 || late.n != 1 || r.slots.live != 0 {
			t.Fatal(got.n, late.n, r.slots.live)
		}
		if err := r.Post(func() {}); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		r.NewSignal(func() {}).Raise()
		if _, err := r.Wait(soon()); err != ErrClosed {
			t.Fatal(err)
		}
		if err := r.Close(soon()); err != nil || !r.Closed() {
			t.Fatal("second Close:", err)
		}
	}
	if n := descriptors(); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if n := mappings(t); n > maps {
		t.Errorf("%d mappings of rings, %d before", n, maps)
	}
}

func mappings(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := 0; i+8 < len(b); i++ {
		if string(b[i:i+8]) == "io_uring" {
			n++
		}
	}
	return n
}

// Signals and the collector do not disturb a wait: no early return, no lost completion.
func TestSignalsAndCollector(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		a, b := socketPair(t)
		tid, stop := unix.Gettid(), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
				runtime.GC()
			}
		})
		start := time.Now()
		n, err := r.Wait(start.Add(100 * time.Millisecond))
		if d := time.Since(start); n != 0 || err != nil || d < 100*time.Millisecond {
			t.Errorf("%d, %v after %v", n, err, d)
		}
		buf := make([]byte, 1)
		for range 200 {
			var got result
			r.Prep(Recv(FD(a), buf, 0), &got, 0)
			r.Prep(Send(FD(b), buf, 0), nil, 0)
			await(t, r, func() bool { return got.n > 0 })
		}
		close(stop)
		wg.Wait()
	})
}

func TestWrongThreadIsRefused(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(soon())
	if !r.Deferred() {
		t.Log("this kernel does not bind rings to threads")
		return
	}
	said := make(chan any)
	go func() {
		defer func() {
			if bug := recover(); bug != nil {
				said <- bug
			}
		}()
		_, err := r.Wait(time.Now())
		said <- err
	}()
	if <-said == nil {
		t.Fatal("another thread may use the ring")
	}
}

func TestProbe(t *testing.T) {
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []Opcode{OpRead, OpWrite, OpSend, OpRecv, OpFsync, OpAsyncCancel, OpTimeout} {
		if !f.Has(op) {
			t.Errorf("operation %d is missing", op)
		}
	}
	if f.Has(250) {
		t.Error("an operation that does not exist is there")
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	each(t, Config{Files: 1}, func(t *testing.T, r *Ring) {
		f := tempFile(t)
		fd, err := r.AddFile(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		var got result
		s := r.NewSignal(func() {})
		turn := func() {
			for range 32 {
				r.Prep(Write(fd, buf, 0), &got, 0)
			}
			s.Raise()
			for end := got.n + 32; got.n < end; {
				r.Wait(time.Time{})
			}
		}
		turn()
		if n := testing.AllocsPerRun(100, turn); n != 0 {
			t.Errorf("%v allocations in a turn of 32 operations", n)
		}
	})
}

// Drain ends everything but the commands of drivers, and leaves the ring.
func TestDrainLeavesCommands(t *testing.T) {
	a, _ := socketPair(t)
	each(t, Config{}, func(t *testing.T, r *Ring) {
		var got, late, held result
		r.Prep(Recv(FD(a), make([]byte, 1), 0), &got, 0)
		r.slots.take(&held, 0, nil, true) // a command that its driver keeps
		if n, err := r.Drain(soon()); n != 1 || err != nil {
			t.Fatalf("%d commands are left: %v", n, err)
		}
		want(t, "operation at Drain", got.res, -int32(unix.ECANCELED))
		if held.n != 0 || r.Closed() {
			t.Fatal("the command was ended:", held.res)
		}
		if _, err := unix.FcntlInt(uintptr(r.fd), unix.F_GETFD, 0); err != nil {
			t.Error("the ring was given back:", err)
		}
		if err := r.Post(func() {}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		r.Prep(Nop(), &late, 0)
		if n, err := r.Drain(soon()); n != 1 || err != nil {
			t.Fatalf("%d commands are left at the second time: %v", n, err)
		}
		if err := r.Close(soon()); err != nil || !r.Closed() {
			t.Fatal("Close after Drain:", err)
		}
		want(t, "operation after Drain", late.res, -int32(unix.ECANCELED))
		want(t, "command at Close", held.res, -int32(unix.ECANCELED))
	})
}

func BenchmarkNop(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close(soon())
	var got result
	b.ReportAllocs()
	for i := 0; i < b.N; i += 32 {
		for range 32 {
			r.Prep(Nop(), &got, 0)
		}
		for end := got.n + 32; got.n < end; {
			r.Wait(noDeadline)
		}
	}
}

// On one processor a busy ring leaves it to the others while it waits.
func TestABusyRingSharesItsProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var turns atomic.Int64 // of a goroutine that always wants to run
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			turns.Add(1)
			runtime.Gosched()
		}
	}()
	each(t, Config{}, func(t *testing.T, r *Ring) {
		const waits = 50
		shared := 0
		for range waits {
			r.Prep(Timeout(2*time.Millisecond), CompleterFunc(func(uint64, int32, uint32) {}), 0)
			before := turns.Load()
			if _, err := r.Wait(noDeadline); err != nil {
				t.Fatal(err)
			}
			if turns.Load() > before {
				shared++
			}
		}
		if shared < waits/10 { // none, if the ring kept its processor; on a busy machine it may take longer than a wait
			t.Errorf("another goroutine could run in %d of %d waits", shared, waits)
		}
	})
	over.Store(true)
	<-done
}

// A kernel that knows none of the flags is too old, and not asked for a ring that could not be closed.
func TestAnOldKernelIsRefused(t *testing.T) {
	const unknown = 1 << 31
	cfg := Config{}
	cfg.fill()
	if fd, _, err := setup(cfg, []uint32{unknown, unknown | setupCoopTaskrun}); !errors.Is(err, ErrTooOld) {
		t.Errorf("ring %d, %v", fd, err)
	}
	fd, p, err := setup(cfg, []uint32{unknown, setupSubmitAll})
	if err != nil || p.Flags&setupSubmitAll == 0 {
		t.Fatalf("with a flag that it knows: %#x, %v", p.Flags, err)
	}
	unix.Close(fd)
}
