package config

import (
	"net/netip"
	"slices"
	"strings"
)

// Local tells which host section is this machine and which is its peer. hostname is what uname -n says, localAddrs
// are the addresses of its interfaces; floating sections are found by address. The error names the hosts there are.
func (r *Resource) Local(hostname string, localAddrs []netip.Addr) (local, peer *Host, err error) {
	return r.Pair(hostname, localAddrs, "")
}

// Pair is Local for a resource of more than two hosts, whose peer has to be chosen by name; "" chooses the only one.
func (r *Resource) Pair(hostname string, localAddrs []netip.Addr, peerName string) (local, peer *Host, err error) {
	if slices.Contains(r.IgnoreOn, hostname) {
		return nil, nil, r.error("", "resource %s is ignored on host %s", r.Name, hostname)
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if !h.isLocal(hostname, localAddrs) {
			continue
		}
		if local != nil {
			return nil, nil, r.error("use on HOST { } instead of floating", "resource %s: host sections %s and %s are both this machine", r.Name, local.Name(), h.Name())
		}
		local = h
	}
	if local == nil {
		return nil, nil, r.error(r.absent(hostname), "resource %s has no section for this machine: uname -n says %q, the sections are %s", r.Name, hostname, r.hostList(nil))
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if h == local || peerName != "" && h.Name() != peerName && !slices.Contains(h.Names, peerName) {
			continue
		}
		if peer != nil {
			return nil, nil, r.error("choose one with --peer", "resource %s has several peers: %s", r.Name, r.hostList(local))
		}
		peer = h
	}
	if peer == nil {
		return nil, nil, r.error("", "resource %s has no peer %q; there are %s", r.Name, peerName, r.hostList(local))
	}
	return local, peer, nil
}

func (r *Resource) error(hint, format string, args ...any) error {
	var rep report
	rep.invalid(r.Pos, hint, format, args...)
	return rep.errs[0]
}

func (h *Host) isLocal(hostname string, addrs []netip.Addr) bool {
	if !h.Floating {
		return slices.Contains(h.Names, hostname)
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		own := h.Address.Addr()
		return a.Unmap() == own || a.WithZone("") == own.WithZone("") && (a.Zone() == "" || own.Zone() == "")
	})
}

// absent guesses why no section fits.
func (r *Resource) absent(hostname string) string {
	short, _, _ := strings.Cut(hostname, ".")
	for _, h := range r.Hosts {
		for _, n := range h.Names {
			if s, _, _ := strings.Cut(n, "."); strings.EqualFold(s, short) {
				return `the name has to be exactly the same: write "on ` + hostname + `"`
			}
		}
		if h.Floating {
			return "no interface has one of these addresses"
		}
	}
	return "rename a section or the machine"
}

// hostList is the names of all sections but one.
func (r *Resource) hostList(but *Host) string {
	var names []string
	for i := range r.Hosts {
		if h := &r.Hosts[i]; h != but {
			names = append(names, h.Name())
		}
	}
	return strings.Join(names, ", ")
}
