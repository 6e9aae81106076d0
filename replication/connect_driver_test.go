package replication

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/wire"
)

// driver is the connecting side of the kernel's driver, as docs/drbd-wire.md 4.3 gives it, step by step.
type driver struct {
	local, peer netip.AddrPort
	opt         config.Net
	listener    *net.TCPListener
	data, meta  *peerSocket
	rc          bool
}

// run is the driver's loop around its attempts; it ends with sockets on which features were exchanged.
func (d *driver) run(ctx context.Context) (connected, error) {
	for {
		flags, err := d.attempt(ctx)
		if err == nil {
			return hand(d.data, d.meta, flags)
		}
		for _, s := range []*peerSocket{d.data, d.meta} {
			if s != nil {
				s.close()
			}
		}
		d.data, d.meta, d.rc = nil, nil, false
		if ctx.Err() != nil {
			return connected{}, ctx.Err()
		}
		time.Sleep(d.opt.ConnectInterval / 10) // the driver sleeps 1 s with a connect-int of 10 s
	}
}

func (d *driver) attempt(ctx context.Context) (wire.FeatureFlags, error) {
	var err error
	if d.listener, err = (socketOptions{}).listen(ctx, d.local); err != nil {
		return 0, err
	}
	for !d.established() {
		if ctx.Err() != nil {
			d.listener.Close()
			return 0, ctx.Err()
		}
		d.connect(ctx)
		for !d.established() && d.acceptOne() && rand.N(2) == 0 {
		}
	}
	d.listener.Close()
	return (&connector{opt: d.opt}).handshake(d.data.conn)
}

// connect is step 2.
func (d *driver) connect(ctx context.Context) {
	if d.data != nil && d.meta != nil {
		return
	}
	conn, err := (socketOptions{}).dial(ctx, d.local.Addr(), d.peer, d.opt.ConnectInterval)
	if err != nil {
		return
	}
	s := &peerSocket{conn: conn}
	kind := wire.CmdInitialData
	if d.data == nil {
		d.data = s
	} else {
		d.meta, d.rc, kind = s, false, wire.CmdInitialMeta
	}
	s.sendFirst(kind, d.opt.ConnectInterval)
}

// established is step 3.
func (d *driver) established() bool {
	if d.data == nil || d.meta == nil {
		return false
	}
	time.Sleep(d.opt.PingTimeout)
	d.dropDead()
	return d.data != nil && d.meta != nil
}

func (d *driver) dropDead() {
	for _, s := range []**peerSocket{&d.data, &d.meta} {
		if *s != nil && !(*s).alive() {
			(*s).close()
			*s = nil
		}
	}
}

// acceptOne is step 4; true after a crossing or a bad packet.
func (d *driver) acceptOne() (again bool) {
	wait := d.opt.ConnectInterval
	if rand.N(2) == 0 {
		wait += wait / 7
	} else {
		wait -= wait / 7
	}
	d.listener.SetDeadline(time.Now().Add(wait))
	conn, err := d.listener.AcceptTCP()
	if err != nil {
		return false
	}
	conn.SetReadDeadline(time.Now().Add(4 * d.opt.PingTimeout))
	kind, _, ok := readFirst(conn)
	conn.SetReadDeadline(time.Time{})
	s := &peerSocket{conn: conn, accepted: true}
	d.dropDead()
	if !ok {
		s.close()
		return true
	}
	slot := &d.data
	if kind == wire.CmdInitialMeta {
		slot, d.rc = &d.meta, true
	}
	crossed := *slot != nil
	if crossed {
		(*slot).close()
	}
	*slot = s
	return crossed
}

// TestConnectWithDriver meets the driver from the lower and from the higher
// address, with it coming earlier, later and at the same time.
func TestConnectWithDriver(t *testing.T) {
	const rounds = 30
	aAddr, bAddr := twoAddresses(t)
	slow := time.Duration(0)
	for round := range rounds {
		own, theirs := aAddr, bAddr
		if round%2 == 1 {
			own, theirs = theirs, own
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		type end struct {
			c   connected
			err error
		}
		far := make(chan end, 1)
		go func() {
			if round%3 == 1 {
				time.Sleep(rand.N(3 * time.Millisecond)) // the point is the spread, nothing waits for it
			}
			c, err := (&driver{local: theirs, peer: own, opt: testNet()}).run(ctx)
			far <- end{c, err}
		}()
		if round%3 == 2 {
			time.Sleep(rand.N(3 * time.Millisecond))
		}
		began := time.Now()
		a, err := newConnector(own, theirs, testNet(), slog.New(slog.DiscardHandler)).run(ctx)
		b := <-far
		cancel()
		if err != nil || b.err != nil {
			t.Fatalf("round %d: %v, driver %v", round, err, b.err)
		}
		slow = max(slow, time.Since(began))
		if err := joined(a, b.c); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		a.closeAll()
		b.c.closeAll()
	}
	t.Logf("%d rounds, the slowest took %v", rounds, slow)
}
