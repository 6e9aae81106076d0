package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// A gate is the way to the driver.
type gate struct {
	send  func(ctx context.Context, op uint32, cmd uapi.CtrlCmd, payload unsafe.Pointer, size uintptr) (int32, error)
	open  func(id int) (fd int, err error) // of the character device; the driver has only one open at a time
	class string                           // where sysfs lists the character devices
}

// driver is the way to the kernel's driver. Tests put one of their own in its place.
var driver = gate{send: control, open: openChar, class: "/sys/class/ublk-char"}

func charPath(id int) string { return fmt.Sprintf("/dev/ublkc%d", id) }

func openChar(id int) (int, error) { return unix.Open(charPath(id), unix.O_RDWR|unix.O_CLOEXEC, 0) }

const controlPath = "/dev/ublk-control"

// grace is how long a control command that was told to end may take before the driver counts as stuck.
const grace = 3 * time.Second

// errnoError is a negative result of a command.
func errnoError(res int32) error { return unix.Errno(-res) }

// A command is one control command under way. It has a thread and a ring of its own: the driver runs commands in
// a worker of the thread that submitted them, and one that hangs must not take others with it.
type command struct {
	op   uint32
	cmd  uapi.CtrlCmd
	mem  []byte // payload, outside the Go heap: the driver reads it late
	ring *uring.Ring
	tok  uring.Token

	ready chan struct{} // closed when ring is there
	done  chan struct{} // closed at the end
	res   int32
	err   error
}

// control sends one command and waits for its result. The payload goes to the driver and comes back. A command that does
// not end when ctx does is cancelled; when even that does not end it, the error is ErrStuck and its
// thread is left behind.
func control(ctx context.Context, op uint32, cmd uapi.CtrlCmd, payload unsafe.Pointer, size uintptr) (int32, error) {
	c := &command{op: op, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var bytes []byte
	if size > 0 {
		var err error
		if c.mem, err = uring.MapMemory(int64(size)); err != nil {
			return 0, err
		}
		bytes = unsafe.Slice((*byte)(payload), size)
		copy(c.mem, bytes)
		c.cmd.Addr, c.cmd.Len = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(c.mem)))), uint16(size)
	}
	go c.run()
	if err := c.wait(ctx); err != nil {
		return 0, err // the driver may still use c.mem: it stays
	}
	if c.mem != nil {
		copy(bytes, c.mem)
		uring.UnmapMemory(c.mem)
	}
	if c.err == nil && c.res < 0 {
		if ctx.Err() != nil && (c.res == -int32(unix.EINTR) || c.res == -int32(unix.ECANCELED)) {
			return 0, ctx.Err()
		}
		return c.res, errnoError(c.res)
	}
	return c.res, c.err
}

func (c *command) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	<-c.ready
	if c.ring != nil {
		c.ring.Post(func() { c.ring.Cancel(c.tok) }) // a closed ring means that it has just ended
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: %w", ErrStuck, ctx.Err())
	}
}

// run is the command's goroutine. Its thread ends with it.
func (c *command) run() {
	runtime.LockOSThread()
	defer close(c.done)
	fd, err := openControl()
	if err == nil {
		defer unix.Close(fd)
		c.ring, err = uring.New(uring.Config{Entries: 4, SQE128: true})
	}
	if err != nil {
		c.err = err
		close(c.ready)
		return
	}
	op := uring.Command(uring.FD(fd), c.op)
	op.Cmd = *(*[4]uint64)(unsafe.Pointer(&c.cmd))
	ended := false
	c.tok = c.ring.Prep(op, uring.CompleterFunc(func(_ uint64, res int32, _ uint32) { c.res, ended = res, true }), 0)
	close(c.ready)
	for !ended && c.err == nil {
		_, c.err = c.ring.Wait(time.Time{})
	}
	c.err = errors.Join(c.err, c.ring.Close(time.Time{}))
}

// openControl opens the control node and says in words why it cannot.
func openControl() (int, error) {
	fd, err := unix.Open(controlPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		if _, serr := os.Stat("/sys/class/misc/ublk-control"); serr == nil && errors.Is(err, unix.ENOENT) {
			return -1, ErrNoControl
		}
		return -1, ErrNoModule
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("%w: %s: %w", ErrPermission, controlPath, err)
	}
	return -1, fmt.Errorf("%s: %w", controlPath, err)
}

// devCommand is a command about device id that has one number as its argument.
func devCommand(ctx context.Context, op uint32, id int, data uint64) error {
	_, err := driver.send(ctx, op, uapi.CtrlCmd{DevID: uint32(id), QueueID: uapi.NoQueue, Data: data}, nil, 0)
	return err
}

// devExchange is a command about device id with a payload that goes both ways.
func devExchange[T any](ctx context.Context, op uint32, id uint32, payload *T) error {
	cmd := uapi.CtrlCmd{DevID: id, QueueID: uapi.NoQueue}
	_, err := driver.send(ctx, op, cmd, unsafe.Pointer(payload), unsafe.Sizeof(*payload))
	return err
}
