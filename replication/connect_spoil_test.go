package replication

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// A stranger at the peer's address that spoils no greeting, since none of its sockets lasts until there is one, does not have the search
// for the peer to itself: it is found out, and the peer is looked for where the stranger cannot come between.
func TestStrangerWhoseSocketsDoNotLast(t *testing.T) {
	secretAndNot(t, func(t *testing.T, secret bool) {
		nodes := nodesWith(t, secret)
		nodes[0].up()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		peer := nodes[0].cfg.Peer.Address.Addr()
		go func() { done <- tease(ctx, peer, nodes[0].cfg.Local.Address) }()
		nodes[0].knocks(peer, "one connection after the other")
		nodes[0].stillConnecting()
		meet(t, nodes)
		cancel()
		t.Logf("%d sockets", <-done)
	})
}

// tease opens one data socket after the other, each of which takes the place of the one before, and says something on each. Now
// and then it closes the last, before the node believes it.
func tease(ctx context.Context, from netip.Addr, to netip.AddrPort) (sockets int) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: time.Second}
	first := append(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}), 0x83)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for ; ctx.Err() == nil; sockets++ {
		c, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			sleep(ctx, time.Millisecond)
			continue
		}
		c.Write(first)
		open = append(open, c)
		sleep(ctx, 2*time.Millisecond)
		if sockets%50 == 0 {
			for _, c := range open {
				c.Close()
			}
			open = open[:0]
		}
	}
	return sockets
}
