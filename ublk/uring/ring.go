package uring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Config says how large a ring is. The zero value is a small ring without tables.
type Config struct {
	Entries     int // submission entries, rounded up to a power of two; 0 means 128
	Completions int // completion entries; 0 means four times Entries
	Slots       int // operations in flight that need no growth; 0 means Completions
	Files       int // slots of the file table (AddFile)
	Buffers     int // slots of the buffer table (AddBuffer, ReserveBuffers), at most 16384
	Mailbox     int // functions that Post holds; 0 means 1024

	// Workers is how many operations on disks and files may block at once, in threads of the kernel: every Fsync and Fallocate,
	// and reads and writes that a disk does not take yet. One that hangs keeps its thread, and the others wait for one. 0 leaves
	// it to the kernel: four times the processors, or Entries if that is less.
	Workers int

	SQE128 bool // 128-byte entries, for commands with more than 16 bytes of payload
	Plain  bool // no flags but those of sizes; for tests
}

// A Ring is one io_uring. See the package comment for who may call what.
type Ring struct {
	fd       int
	enterFD  int    // registered index, or fd
	enterReg uint32 // enterRegisteredRing when enterFD is an index
	noIOWait uint32
	flags    uint32 // setup flags in force

	shared shared
	sqTail uint32 // prepared up to here
	cqHead uint32 // delivered up to here
	size   uint32 // submission entries

	slots   slots
	busy    int   // waits in a row that ended soon
	oneProc bool  // GOMAXPROCS is 1: a wait must not keep the only processor
	backlog []cqe // taken out of a full completion queue in the middle of a turn
	refused []Token
	clock   clock

	files   table
	plain   bool // AddFile puts nothing into the table
	buffers table
	regions []region // of buffers

	mail    mailbox
	scratch *scratch // memory that the kernel reads and writes
	page    []byte   // where scratch lies
	times   []byte   // one timespec per submission entry

	state  ringState
	closed atomic.Bool
}

var noDeadline time.Time

type ringState uint8

const (
	ringOpen ringState = iota
	ringClosing
	ringClosed
)

// scratch is kernel-visible memory outside the Go heap.
type scratch struct {
	arg   geteventsArg
	ts    timespec
	event [8]byte // the eventfd is read into this

	file int32     // argument of updateFile
	iov  [2]uint64 // argument of updateBuffer: struct iovec

	workers [2]uint32 // argument of limitWorkers: on disks and files, on others
}

// New makes a ring and binds it to the calling OS thread. It fails with ErrMissing, ErrDisabled, ErrTooOld or the
// kernel's error.
func New(cfg Config) (*Ring, error) {
	cfg.fill()
	fd, p, err := setup(cfg, steps)
	if err != nil {
		return nil, err
	}
	r := &Ring{fd: fd, enterFD: fd, flags: p.Flags, size: p.SQEntries, slots: newSlots(cfg.Slots), clock: newClock(time.Now())}
	r.oneProc = runtime.GOMAXPROCS(0) == 1
	r.plain = p.Features&featRWAttr == 0
	if p.Features&featNoIOWait != 0 {
		r.noIOWait = enterNoIOWait
	}
	if err := r.start(cfg, &p); err != nil {
		r.free(true)
		return nil, err
	}
	return r, nil
}

func (c *Config) fill() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.Entries, 128)
	def(&c.Completions, 4*c.Entries)
	def(&c.Slots, c.Completions)
	def(&c.Mailbox, 1024)
}

func (r *Ring) start(cfg Config, p *params) (err error) {
	r.mail.event, r.mail.limit = -1, cfg.Mailbox
	if r.shared, err = mapShared(r.fd, p); err != nil {
		return err
	}
	r.cqHead = atomic.LoadUint32(r.shared.cqHead)
	r.sqTail = atomic.LoadUint32(r.shared.sqTail)
	if r.page, err = MapMemory(int64(unsafe.Sizeof(scratch{}))); err != nil {
		return err
	}
	r.scratch = (*scratch)(unsafe.Pointer(unsafe.SliceData(r.page)))
	if r.times, err = MapMemory(int64(r.size) * int64(unsafe.Sizeof(timespec{}))); err != nil {
		return err
	}
	if err := r.makeTables(cfg); err != nil {
		return err
	}
	r.registerSelf()
	if err := r.limitWorkers(cfg.Workers); err != nil {
		return err
	}
	// Not O_NONBLOCK: the ring would answer EAGAIN instead of waiting.
	if r.mail.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	r.armWake()
	return nil
}

// waker re-arms the read of the eventfd. Only after a wake-up is there anything to do.
type waker struct{ r *Ring }

func (w waker) Complete(_ uint64, res int32, _ uint32) {
	if w.r.state == ringOpen {
		w.r.armWake()
	}
}

func (r *Ring) armWake() {
	r.Prep(Op{Code: OpRead, FD: int32(r.mail.event), Mem: unsafe.Pointer(&r.scratch.event), Len: 8, Off: ^uint64(0)}, waker{r}, 0)
}

// InFlight is the number of operations that have not had their last completion; the ring's own one is not counted.
func (r *Ring) InFlight() int {
	if r.state == ringOpen {
		return r.slots.live - 1
	}
	return r.slots.live
}

// Prep queues op for the next submission and returns its name. who gets its completions with arg; nil
// ignores them. Nothing is submitted before Wait, Submit or a full queue. On a ring that is closing, the operation
// is not started and completes with -ECANCELED.
func (r *Ring) Prep(op Op, who Completer, arg uint64) Token {
	if op.Flags&skipSuccess != 0 {
		panic("uring: an operation without completion would keep its slot for ever")
	}
	if r.state != ringOpen {
		return r.refuse(op, who, arg)
	}
	return r.queue(op, who, arg)
}

func (r *Ring) queue(op Op, who Completer, arg uint64) Token {
	if r.Room() == 0 {
		r.submit()
	}
	t := r.slots.take(who, arg, op.Mem, op.Code == OpUringCmd)
	r.fill(&op, t)
	return t
}

// fill writes op into the next submission entry.
func (r *Ring) fill(op *Op, t Token) {
	e := r.shared.entry(r.sqTail)
	*e = sqe{
		Opcode: uint8(op.Code), Flags: op.Flags, Prio: op.Prio, FD: op.FD, Off: op.Off, Addr: op.Addr,
		Len: op.Len, OpFlags: op.OpFlags, UserData: uint64(t), Buf: op.Buf, File: op.File,
		Cmd: [2]uint64{op.Cmd[0], op.Cmd[1]},
	}
	if op.Mem != nil {
		e.Addr = uint64(uintptr(op.Mem))
	}
	if op.Code == OpTimeout || op.Code == OpLinkTimeout {
		e.Addr = r.timespecAt(r.sqTail, time.Duration(op.Addr))
	}
	if r.flags&setupSQE128 != 0 {
		ext := (*[8]uint64)(unsafe.Add(unsafe.Pointer(e), 64))
		*ext = [8]uint64{op.Cmd[2], op.Cmd[3]}
	}
	r.sqTail++
}

// timespecAt stores d beside submission entry i; the kernel reads it when it takes the entry.
func (r *Ring) timespecAt(i uint32, d time.Duration) uint64 {
	base := unsafe.Pointer(unsafe.SliceData(r.times))
	p := (*timespec)(unsafe.Add(base, uintptr(i&r.shared.sqMask)*unsafe.Sizeof(timespec{})))
	p.Sec, p.Nsec = int64(d/time.Second), int64(d%time.Second)
	return uint64(uintptr(unsafe.Pointer(p)))
}

// Room is the number of operations that Prep takes before it has to submit. A chain of linked operations must fit:
// call Reserve before its first.
func (r *Ring) Room() int {
	return int(r.size - (r.sqTail - atomic.LoadUint32(r.shared.sqHead)))
}

// Reserve submits what is prepared unless n more operations have room, so that they go out in one submission.
// More than the ring's entries is a bug.
func (r *Ring) Reserve(n int) {
	if n > int(r.size) {
		panic("uring: a chain longer than the submission queue")
	}
	if r.state == ringOpen && r.Room() < n {
		r.submit()
	}
}

// Deferred says that completions are collected only inside Wait (DEFER_TASKRUN), the fastest way.
func (r *Ring) Deferred() bool { return r.flags&setupDeferTaskrun != 0 }

// Closed says that Close has given the ring back to the kernel. It is safe from any goroutine.
func (r *Ring) Closed() bool { return r.closed.Load() }
