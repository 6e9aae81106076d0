package ublk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// fakeDriver answers control commands as the kernel's driver does, as far as the life of devices goes.
type fakeDriver struct {
	t    *testing.T
	mu   sync.Mutex
	devs map[uint32]*fakeDevice
	sent []uint32 // commands, in order

	before func(ctx context.Context, op uint32) error // may answer in the driver's place
	stop   func()                                     // what STOP waits for
	busy   func(id int) bool                          // the character device is open
	opened []int
}

type fakeDevice struct {
	info   uapi.DevInfo
	params uapi.Params
}

// fakeHost puts a fake in the driver's place until the test ends.
func fakeHost(t *testing.T) *fakeDriver {
	f := &fakeDriver{t: t, devs: make(map[uint32]*fakeDevice)}
	real := driver
	driver = gate{send: f.send, open: f.open, class: t.TempDir()}
	t.Cleanup(func() { driver = real })
	return f
}

func (f *fakeDriver) open(id int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened = append(f.opened, id)
	if f.devs[uint32(id)] == nil {
		return -1, unix.ENOENT
	}
	if f.busy != nil && f.busy(id) {
		return -1, unix.EBUSY
	}
	return unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
}

// add makes a device of another process.
func (f *fakeDriver) add(info uapi.DevInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devs[info.DevID] = &fakeDevice{info: info}
	f.node(info.DevID)
}

func (f *fakeDriver) node(id uint32) {
	if err := os.WriteFile(filepath.Join(driver.class, fmt.Sprintf("ublkc%d", id)), nil, 0o600); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeDriver) send(ctx context.Context, op uint32, cmd uapi.CtrlCmd, payload unsafe.Pointer, _ uintptr) (int32, error) {
	f.mu.Lock()
	f.sent = append(f.sent, op)
	before, stop := f.before, f.stop
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if before != nil {
		if err := before(ctx, op); err != nil {
			return 0, err
		}
	}
	if (op == uapi.CmdStopDev || op == uapi.CmdTryStopDev) && stop != nil {
		stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return 0, f.do(op, cmd, payload)
}

func (f *fakeDriver) do(op uint32, cmd uapi.CtrlCmd, payload unsafe.Pointer) error {
	switch op {
	case uapi.CmdGetFeatures:
		*(*uint64)(payload) = uint64(FeatureSafeStop) | uapi.FUserCopy | uapi.FUserRecovery | uapi.FUserRecoveryReissue
		return nil
	case uapi.CmdAddDev:
		if f.devs[cmd.DevID] != nil {
			return unix.EEXIST
		}
		info := (*uapi.DevInfo)(payload)
		info.Flags |= uapi.FSafeStop
		f.devs[cmd.DevID] = &fakeDevice{info: *info}
		f.node(cmd.DevID)
		return nil
	}
	d := f.devs[cmd.DevID]
	if d == nil {
		return unix.ENODEV
	}
	switch op {
	case uapi.CmdDelDev:
		delete(f.devs, cmd.DevID)
	case uapi.CmdSetParams:
		d.params = *(*uapi.Params)(payload)
	case uapi.CmdGetParams:
		*(*uapi.Params)(payload) = d.params
	case uapi.CmdGetDevInfo:
		*(*uapi.DevInfo)(payload) = d.info
	case uapi.CmdStartDev:
		d.info.State = uapi.StateLive
	case uapi.CmdStopDev, uapi.CmdTryStopDev:
		d.info.State = uapi.StateDead
	default:
		return unix.EOPNOTSUPP
	}
	return nil
}
