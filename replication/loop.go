package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// Sizes of the loop's ring.
const (
	ringEntries = 512
	ringSlots   = 4096 // operations in flight without growth
	ringFiles   = 64
	ringBuffers = 4096
)

// loop is the one owner of everything that changes with I/O: engine, ring, disks, peer
// sockets. All its methods run on its thread, unless they say otherwise.
//
// A turn is: wait for completions (each calls one method of the engine), let the
// engine finish the turn (Tick, Drain), start what it wants. Nothing in a turn waits.
type loop struct {
	ring   *uring.Ring
	engine *engine.Engine
	began  time.Time // origin of engine.Instant, by the ring's clock
	memory []byte    // the engine's buffers

	disks   disks
	conn    connection
	volumes map[int]Device // by volume number; only for completions of requests
	users   *usersRecord

	done    []engine.DiskIO   // could not be started: to be reported when the engine may be called
	events  []engine.Event    // the same, of the current turn
	held    []*engine.Request // answered, and a disk that was given up may still use their memory
	nextID  uint64
	replies map[uint64]func(error) // each is called once

	// tell hands events to the supervisor; it must not block.
	tell    func(engine.Event)
	stopped bool
	fed     bool  // the engine got a request
	turns   int64 // since the start
}

// now is the engine's clock, the ring's: it stands while this thread gets no processor, so that neither a disk nor the peer is given up for that.
func (l *loop) now() engine.Instant { return l.ring.Now().Sub(l.began) }

// run turns until stop. The calling goroutine is locked to its thread, which made the ring.
func (l *loop) run() error {
	for !l.stopped {
		l.turn()
		if l.stopped {
			break
		}
		if _, err := l.ring.Wait(l.deadline()); err != nil {
			return err
		}
	}
	return nil
}

// deadline is when something is to be done without a completion; the zero time: never.
func (l *loop) deadline() time.Time {
	at := min(l.engine.Deadline(), l.conn.deadline())
	if at == engine.Never {
		return time.Time{}
	}
	return l.began.Add(at)
}

// turn lets the engine and what it orders go on until nothing moves.
func (l *loop) turn() {
	l.turns++
	l.engine.Tick(l.now())
	for again := true; again; {
		l.fed = false
		again = l.drain()
		again = l.conn.pump() || again || l.fed
		l.disks.submit() // after what goes to the peer, which works on it meanwhile
	}
	l.conn.listen() // last: it hurries nobody
}

// drain carries out one Output, and reports whether the engine has heard of something by that. While it is walked the
// engine may not be called, so what ends at once is kept for after.
func (l *loop) drain() (heard bool) {
	out := l.engine.Drain()
	for _, ev := range out.Events {
		if u, ok := ev.(engine.UsersWork); ok {
			l.keepUsers(u) // before anything that depends on it is done, or answered
		}
	}
	for i := range out.Disk {
		if !l.disks.start(&out.Disk[i]) {
			l.done = append(l.done, out.Disk[i])
		}
	}
	l.answer(out.Done)
	l.events = append(l.events[:0], out.Events...)
	heard = len(l.done)+len(l.events) > 0
	for _, io := range l.done {
		l.engine.DiskDone(l.now(), io.Token, engine.ENODEV)
	}
	l.done = l.done[:0]
	heard = l.exchangeHeld() || heard
	for i, ev := range l.events {
		l.event(ev)
		l.events[i] = nil
	}
	return heard
}

// answer answers requests, but for those that go elsewhere, or whose memory a disk that was given up may still use.
func (l *loop) answer(done []*engine.Request) {
	for _, r := range done {
		if r.Held != 0 || r.Err == engine.EAGAIN {
			l.held = append(l.held, r)
			continue
		}
		l.volumes[r.Vol].Complete(r)
	}
}

// exchangeHeld goes on with those, and reports whether there were any.
func (l *loop) exchangeHeld() bool {
	for i, r := range l.held {
		l.held[i] = nil
		l.exchange(r)
	}
	any := len(l.held) > 0
	l.held = l.held[:0]
	return any
}

// exchange gives a request other memory, and keeps its own until the disk that was given up has ended with it; it may have since
// the engine's answer. Where there is none, the request waits for that.
func (l *loop) exchange(r *engine.Request) {
	token := r.Held
	if token == 0 {
		l.goesBack(r)
		return
	}
	release, ok := l.volumes[r.Vol].Keep(r)
	if !ok {
		l.disks.late[token] = func() { l.goesBack(r) }
		return
	}
	l.disks.late[token] = release
	l.goesBack(r)
}

// goesBack answers a request that has memory of its own again, or has it served by another disk.
func (l *loop) goesBack(r *engine.Request) {
	if r.Err == engine.EAGAIN {
		l.submit(r)
		return
	}
	l.volumes[r.Vol].Complete(r)
}

// keepUsers remembers for the next daemon. If that fails this one goes on: it is the next that must not be started by mistake.
func (l *loop) keepUsers(u engine.UsersWork) {
	if err := l.users.keep(u.Vol, u.Users); err != nil {
		l.tell(engine.Notice{Vol: u.Vol, Level: engine.Error, Text: fmt.Sprintf(
			"what the users of the block device work on cannot be remembered (%v): should this daemon die, unmount the device before the next start", err)})
	}
}

// event does what only the loop can do, and passes the rest on.
func (l *loop) event(ev engine.Event) {
	switch ev := ev.(type) {
	case engine.OpenConnection:
		l.conn.open(ev.After)
	case engine.CloseConnection:
		l.conn.close(ev.Linger)
	case engine.Reply:
		if reply, ok := l.replies[ev.ID]; ok {
			delete(l.replies, ev.ID)
			reply(ev.Err)
		}
	case engine.CloseBacking:
		l.disks.giveBack(ev.Vol)
	case engine.AbandonDisk:
		l.disks.abandon(ev.Vol)
	case engine.StateChange:
		l.conn.judge(ev)
		l.tell(ev)
	default:
		l.tell(ev)
	}
}

// submit takes a request of the application from a device.
func (l *loop) submit(r *engine.Request) {
	l.fed = true
	l.engine.Submit(l.now(), r)
}

// command gives the engine an order; reply is called with the answer, on the loop's thread, and must not wait.
func (l *loop) command(cmd engine.Command, reply func(error)) (id uint64) {
	l.nextID++
	l.replies[l.nextID] = reply
	l.engine.Command(l.now(), l.nextID, cmd)
	return l.nextID
}

// withdraw takes an order back, if that is still possible.
func (l *loop) withdraw(id uint64) (engine.Withdrawal, string) {
	end, why := l.engine.Withdraw(l.now(), id)
	if end == engine.Withdrawn {
		delete(l.replies, id)
	}
	return end, why
}

// stop ends run and answers what is still open.
func (l *loop) stop(why error) {
	l.stopped = true
	for id, reply := range l.replies {
		delete(l.replies, id)
		reply(why)
	}
}

// post has f run on the loop's thread. It is safe from any other goroutine. A full mailbox is waited for.
func (l *loop) post(ctx context.Context, f func()) error {
	for {
		err := l.ring.Post(f)
		if err != uring.ErrFull {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
