package ublk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// State is the driver's view of a device.
type State uint16

const (
	StateDead     = State(uapi.StateDead)     // no disk: added, stopped, or its server died
	StateLive     = State(uapi.StateLive)     // served
	StateQuiesced = State(uapi.StateQuiesced) // no server; requests wait
	StateFailIO   = State(uapi.StateFailIO)   // no server; requests fail
)

// String returns "dead", "live", "quiesced" or "fail-io".
func (s State) String() string {
	switch s {
	case StateDead:
		return "dead"
	case StateLive:
		return "live"
	case StateQuiesced:
		return "quiesced"
	case StateFailIO:
		return "fail-io"
	}
	return fmt.Sprintf("State(%d)", uint16(s))
}

// Info describes a device, ours or not.
type Info struct {
	ID       int
	State    State
	Server   int // process id; of a dead one it may be old or below zero
	Owner    uint64
	Features Features
	Mode     Mode
	Recovery Recovery
	Queues   int
	Depth    int
	MaxIO    int // bytes
	Geometry Geometry

	// Orphan says that no process serves the device or holds it in order to.
	Orphan bool
}

// Lookup describes the device with a number. The error is ErrNotExist when there is none.
func Lookup(ctx context.Context, id int) (Info, error) {
	i, err := describe(ctx, id)
	if err == nil {
		err = i.complete(ctx)
	}
	return i, err
}

// describe finds everything but Geometry and Orphan, by one command.
func describe(ctx context.Context, id int) (Info, error) {
	raw, err := devInfo(ctx, id)
	if err != nil {
		return Info{}, &OpError{Op: "look up", Device: BlockPath(id), Err: err}
	}
	f := Features(raw.Flags)
	return Info{
		ID: id, State: State(raw.State), Server: int(raw.PID), Owner: raw.OwnerTag, Features: f, Mode: modeOf(f),
		Recovery: recoveryOf(f), Queues: int(raw.Queues), Depth: int(raw.Depth), MaxIO: int(raw.MaxIOBytes),
	}, nil
}

// complete finds what describe has left out.
func (i *Info) complete(ctx context.Context) error {
	p, err := getParams(ctx, i.ID)
	if errors.Is(err, unix.ENODEV) { // it was there a moment ago
		err = fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: none were set yet
		return &OpError{Op: "look up", Device: BlockPath(i.ID), Err: err}
	}
	i.Geometry = geometryOf(&p)
	i.Orphan, err = orphan(ctx, i)
	return err
}

// lookLimit is how long something else may have a character device open in order to look at it, or because it is dying.
const lookLimit = 3 * time.Second

// orphan looks whether somebody is there. A device that was added and not started says nothing about its process, but its
// character device can be opened only once. One that cannot be opened for another reason may have a server.
func orphan(ctx context.Context, i *Info) (bool, error) {
	switch i.State {
	case StateQuiesced, StateFailIO:
		return true, nil
	case StateLive:
		return i.Server <= 0 || errors.Is(unix.Kill(i.Server, 0), unix.ESRCH), nil
	}
	limit := time.Now().Add(lookLimit)
	for {
		fd, err := driver.open(i.ID)
		if err == nil {
			return true, unix.Close(fd)
		}
		if !momentary(err) || time.Now().After(limit) {
			return false, nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return false, &OpError{Op: "look up", Device: BlockPath(i.ID), Err: err}
		}
	}
}

// List describes all devices of the host, by number; match (nil for all) chooses, for example by Owner. Geometry and Orphan are not
// known yet when match is asked: finding out the latter opens the character device, which nobody does to a device that he does not
// mean. A device that goes away meanwhile is left out.
func List(ctx context.Context, match func(*Info) bool) ([]Info, error) {
	entries, err := os.ReadDir(driver.class)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := features(ctx) // there is no class without the module
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("ublk: list devices: %w", err)
	}
	var all []Info
	for _, e := range entries {
		id, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "ublkc"))
		if err != nil {
			continue
		}
		i, err := describe(ctx, id)
		if err == nil && match != nil && !match(&i) {
			continue
		}
		if err == nil {
			err = i.complete(ctx)
		}
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b Info) int { return a.ID - b.ID })
	return all, nil
}

// Remove stops and deletes a device of another process or of none. Waiting requests get errors. It does not ask whether the disk
// is in use, and blocks while somebody has it open.
func Remove(ctx context.Context, id int) error {
	fail := func(op string, err error) error { return &OpError{Op: op, Device: BlockPath(id), Err: err} }
	gone := func(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }
	if err := devCommand(ctx, uapi.CmdStopDev, id, 0); err != nil && !gone(err) {
		return fail("stop", err)
	}
	err := devCommand(ctx, uapi.CmdDelDev, id, 0)
	if err != nil && !gone(err) {
		return fail("delete", err)
	}
	return nil
}

// Clean removes every orphan that match chooses (as List), and returns their numbers. Orphans that wait for Recover are
// orphans too: choose by Owner and State.
func Clean(ctx context.Context, match func(*Info) bool) ([]int, error) {
	found, err := List(ctx, match)
	if err != nil {
		return nil, err
	}
	var done []int
	var errs []error
	for _, i := range found {
		if !i.Orphan {
			continue
		}
		if err := Remove(ctx, i.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, i.ID)
	}
	return done, errors.Join(errs...)
}
