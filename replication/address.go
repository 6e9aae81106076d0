package replication

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tentativeLimit bounds the wait for the kernel to find an IPv6 address unique on its link, which takes a second or two.
const tentativeLimit = 5 * time.Second

// An ownAddress is an address of this machine.
type ownAddress struct {
	ip    netip.Addr // without zone
	link  int        // index
	flags int        // IFA_F_*
}

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
	if !local.Addr().IsLoopback() {
		if err := haveAddress(ctx, local.Addr()); err != nil {
			return err
		}
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

// haveAddress waits until an address of this machine can be listened on. That there is none is a *NoAddressError.
func haveAddress(ctx context.Context, want netip.Addr) error {
	limit := time.Now().Add(tentativeLimit)
	for {
		all, err := addresses()
		if err != nil {
			return nil // to listen tells as well, in fewer words
		}
		own := find(all, want)
		switch {
		case own == nil:
			return &NoAddressError{want, bySimilarity(want, named(all))}
		case own.flags&unix.IFA_F_DADFAILED != 0:
			return fmt.Errorf("another machine on the link has the address %s too: give one of them another", want)
		case own.flags&unix.IFA_F_TENTATIVE == 0 || own.flags&unix.IFA_F_OPTIMISTIC != 0:
			return nil
		case time.Now().After(limit):
			return fmt.Errorf("the kernel still looks whether another machine has the address %s: is its link up?", want)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// addresses lists the machine's addresses, without loopback.
func addresses() ([]ownAddress, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	var have []ownAddress
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !ip.IsLoopback() {
			have = append(have, ownAddress{ip, a.LinkIndex, a.Flags})
		}
	}
	return have, nil
}

// find looks for an address, on the link that its zone names if it has one; nil if it is not there.
func find(all []ownAddress, want netip.Addr) *ownAddress {
	index := 0
	if zone := want.Zone(); zone != "" {
		link, err := netlink.LinkByName(zone)
		if err != nil {
			return nil
		}
		index = link.Attrs().Index
	}
	want = want.Unmap().WithZone("")
	for i, a := range all {
		if a.ip == want && (index == 0 || a.link == index) {
			return &all[i]
		}
	}
	return nil
}

// named are addresses as a configuration writes them: link-local ones of IPv6 with the name of their link.
func named(all []ownAddress) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		if a.ip.Is6() && a.ip.IsLinkLocalUnicast() {
			link, err := netlink.LinkByIndex(a.link)
			if err != nil {
				continue // it has just gone
			}
			a.ip = a.ip.WithZone(link.Attrs().Name)
		}
		out = append(out, a.ip)
	}
	return out
}

// bySimilarity puts those of the same family and with the longest common prefix first.
func bySimilarity(want netip.Addr, have []netip.Addr) []netip.Addr {
	sorted := slices.Clone(have)
	slices.SortStableFunc(sorted, func(a, b netip.Addr) int { return common(want.Unmap(), b) - common(want.Unmap(), a) })
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
