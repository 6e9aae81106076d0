package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
)

// watchLinks drops the connection at once when what carries it goes away: the
// local address, its link (administratively, or the cable), or the route to the peer. A ping timeout would
// find out, later.
func (r *Resource) watchLinks(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.watchLinksOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("network changes are not seen for a moment", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (r *Resource) watchLinksOnce(ctx context.Context) error {
	done := make(chan struct{})
	links, addrs, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	defer func() { // the package's goroutines end when they can deliver what they hold
		close(done)
		go drain(links)
		go drain(addrs)
		go drain(routes)
	}()
	failed := make(chan error, 3)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	if err := subscribe(links, addrs, routes, done, fail); err != nil {
		return err
	}
	for {
		// At once as well: what changed before the subscription, or was lost with the last one, is not told again.
		if err := r.carried(); err != nil {
			r.on(ctx, func(l *loop) { l.conn.trouble(engine.NetworkFailure, err) })
		}
		open := true
		select {
		case _, open = <-links:
		case _, open = <-addrs:
		case _, open = <-routes:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
		if !open {
			return errors.New("netlink: the subscription has ended")
		}
	}
}

// subscribe asks for changes. A channel that could not be subscribed is closed.
func subscribe(links chan netlink.LinkUpdate, addrs chan netlink.AddrUpdate, routes chan netlink.RouteUpdate,
	done chan struct{}, fail func(error)) error {
	err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail})
	if err != nil {
		close(links)
	}
	aerr := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail})
	if aerr != nil {
		close(addrs)
	}
	rerr := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: fail})
	if rerr != nil {
		close(routes)
	}
	return errors.Join(err, aerr, rerr)
}

func drain[T any](ch <-chan T) {
	for range ch {
	}
}

// carried says why the connection cannot be carried now, or nil.
func (r *Resource) carried() error {
	local, peer := r.cfg.Local.Address.Addr(), r.cfg.Local.Reach(r.cfg.Peer).Addr()
	if local.IsLoopback() {
		return nil
	}
	all, err := addresses()
	if err != nil {
		return nil // not knowing is no reason to drop a connection
	}
	own := find(all, local)
	if own == nil {
		return fmt.Errorf("the address %s is gone", local)
	}
	link, err := netlink.LinkByIndex(own.link)
	if err != nil {
		return fmt.Errorf("the link of address %s is gone", local)
	}
	attrs := link.Attrs()
	switch {
	case attrs.Flags&net.FlagUp == 0:
		return fmt.Errorf("the link %s is down", attrs.Name)
	case attrs.RawFlags&unix.IFF_RUNNING == 0:
		return fmt.Errorf("the link %s has no carrier", attrs.Name)
	case peer.IsLinkLocalUnicast():
		return nil // its route is the link
	}
	from := &netlink.RouteGetOptions{SrcAddr: net.IP(local.AsSlice())} // policy routing looks at it
	if _, err := netlink.RouteGetWithOptions(net.IP(peer.AsSlice()), from); errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("there is no route to %s", peer)
	}
	return nil
}
