package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
)

// A NoAddressError says that the local address of a resource is not on this machine.
type NoAddressError struct {
	Address netip.Addr
	Have    []netip.Addr // those that are there, the most similar first
}

func (e *NoAddressError) Error() string {
	s := fmt.Sprintf("this machine has no address %s", e.Address)
	if len(e.Have) == 0 {
		return s + ", and no other: configure the network first"
	}
	names := make([]string, len(e.Have))
	for i, a := range e.Have {
		names[i] = a.String()
	}
	return fmt.Sprintf("%s; it has %s: did you mean %s?", s, strings.Join(names, ", "), names[0])
}

// checkAddress finds at the start what would otherwise be an endless wait for the peer: a
// local address that does not exist, a port that somebody else has.
func (r *Resource) checkAddress(ctx context.Context) error {
	local := r.cfg.Local.Address
	have, err := addresses()
	if err == nil && !slices.Contains(have, local.Addr().Unmap()) && !local.Addr().IsLoopback() {
		return &NoAddressError{local.Addr(), bySimilarity(local.Addr().Unmap(), have)}
	}
	l, err := socketOptions{}.listen(ctx, local)
	switch {
	case err == nil:
		return l.Close()
	case portInUse(err):
		return fmt.Errorf("port %d of %s is in use by another program; find it with: ss -ltnp sport = :%d", local.Port(), local.Addr(), local.Port())
	}
	return fmt.Errorf("listen on %s: %w", local, err)
}

// addresses lists the machine's addresses, without loopback.
func addresses() ([]netip.Addr, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	var have []netip.Addr
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsLoopback() {
			have = append(have, ip.Unmap())
		}
	}
	return have, nil
}

// bySimilarity puts those of the same family and with the longest common prefix first.
func bySimilarity(want netip.Addr, have []netip.Addr) []netip.Addr {
	sorted := slices.Clone(have)
	slices.SortStableFunc(sorted, func(a, b netip.Addr) int { return common(want, b) - common(want, a) })
	return sorted
}

// common is the number of leading bits that two addresses share, -1 between families.
func common(a, b netip.Addr) int {
	if a.BitLen() != b.BitLen() {
		return -1
	}
	n := 0
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		d := x[i] ^ y[i]
		if d == 0 {
			n += 8
			continue
		}
		for mask := byte(0x80); d&mask == 0; mask >>= 1 {
			n++
		}
		break
	}
	return n
}

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
	local, peer := r.cfg.Local.Address.Addr().Unmap(), r.cfg.Peer.Address.Addr().Unmap()
	if local.IsLoopback() {
		return nil
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil // not knowing is no reason to drop a connection
	}
	i := slices.IndexFunc(all, func(a netlink.Addr) bool { return a.IP.Equal(net.IP(local.AsSlice())) })
	if i < 0 {
		return fmt.Errorf("the address %s is gone", local)
	}
	link, err := netlink.LinkByIndex(all[i].LinkIndex)
	if err != nil {
		return fmt.Errorf("the link of address %s is gone", local)
	}
	attrs := link.Attrs()
	switch {
	case attrs.Flags&net.FlagUp == 0:
		return fmt.Errorf("the link %s is down", attrs.Name)
	case attrs.RawFlags&unix.IFF_RUNNING == 0:
		return fmt.Errorf("the link %s has no carrier", attrs.Name)
	}
	from := &netlink.RouteGetOptions{SrcAddr: net.IP(local.AsSlice())} // policy routing looks at it
	if _, err := netlink.RouteGetWithOptions(net.IP(peer.AsSlice()), from); errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("there is no route to %s", peer)
	}
	return nil
}
