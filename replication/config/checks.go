package config

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// digests are the hashes that cram-hmac-alg can name: those of the kernel's crypto interface that make an HMAC and that Go's library has.
var digests = []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"}

// checkResource holds the rules between options and between hosts of one resource. won is the settings in force,
// for their positions.
func checkResource(res *Resource, won []setting, r *report) {
	at := func(section Section, name string) Position {
		for _, w := range won {
			if w.opt == byName[section][name] {
				return w.at
			}
		}
		return res.Pos
	}
	known := !slices.ContainsFunc(won, func(w setting) bool { return w.wrong }) // else a combination may be another one than is meant
	if known {
		checkNet(&res.Net, r, func(name string) Position { return at(NetSection, name) })
	}
	for i := range res.Hosts {
		h := &res.Hosts[i]
		checkBacking(res.Name, h, r)
		for _, v := range h.Volumes {
			if v.Disk != "" && v.Disk == v.MetaDisk.Device {
				r.invalid(v.Pos, "write: meta-disk internal;", "volume %d keeps its data and its metadata at the same place on %s", v.Number, v.Disk)
			}
			if known && v.Options.Fencing == "resource-and-stonith" && res.Net.Protocol == ProtocolA {
				r.invalid(at(DiskSection, "fencing"), "use protocol B or C", "fencing resource-and-stonith does not go with protocol A (154)")
			}
		}
	}
	if len(res.Hosts) < 2 {
		r.invalid(res.Pos, "add: on HOST { address ADDR:PORT; }", "resource %s has %d host sections, it needs two", res.Name, len(res.Hosts))
		return
	}
	checkHosts(res, r)
}

// checkNet holds the combinations that the 8.4 driver refuses; its error number stands in the message.
// Source: docs/drbd-metadata.md 9.1, Combinations.
func checkNet(n *Net, r *report, at func(string) Position) {
	if n.AllowTwoPrimaries && n.Protocol != ProtocolC {
		r.invalid(at("allow-two-primaries"), "use protocol C", "allow-two-primaries does not go with protocol %s (139)", n.Protocol)
	}
	if n.OnCongestion != OnCongestionBlock && n.Protocol != ProtocolA {
		r.invalid(at("on-congestion"), "use protocol A or on-congestion block", "on-congestion %s does not go with protocol %s (155)", n.OnCongestion, n.Protocol)
	}
	switch {
	case n.CRAMHMACAlg != "" && !slices.Contains(digests, n.CRAMHMACAlg):
		r.invalid(at("cram-hmac-alg"), hintFor(n.CRAMHMACAlg, digests, "one of "+strings.Join(digests, ", ")), "cram-hmac-alg %s is unknown (120)", n.CRAMHMACAlg)
	case n.CRAMHMACAlg != "" && n.SharedSecret == "":
		r.invalid(at("cram-hmac-alg"), `add, the same on both nodes: shared-secret "what this prints: urbd secret";`, "cram-hmac-alg without a shared-secret proves nothing")
	case n.CRAMHMACAlg == "" && n.SharedSecret != "":
		r.warn(Warning{Position: at("shared-secret"), Msg: "shared-secret without cram-hmac-alg: the peer is not authenticated"})
	}
	if strings.ContainsFunc(n.VerifyAlg, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		r.invalid(at("verify-alg"), "crc32c, for example", "verify-alg %q cannot be the name of a digest (144)", n.VerifyAlg)
	}
}

// checkHosts holds the rules between the hosts of one resource.
func checkHosts(res *Resource, r *report) {
	first := &res.Hosts[0]
	names := make(map[string]Position)
	for i := range res.Hosts {
		h := &res.Hosts[i]
		for _, n := range h.Names {
			if pos, twice := names[n]; twice {
				r.invalid(h.Pos, "", "host %s stands twice in resource %s, first at %s", n, res.Name, pos)
			}
			names[n] = h.Pos
		}
		if len(h.Volumes) == 0 {
			r.invalid(h.Pos, "add device, disk and meta-disk", "host %s has no volume", h.Name())
		}
		if i == 0 {
			continue
		}
		checkVolumes(res.Name, first, h, r)
		checkVolumes(res.Name, h, first, r)
		if a, b := first.Address, h.Address; a.IsValid() && b.IsValid() && a.Addr().Is4() != b.Addr().Is4() {
			r.invalid(h.Pos, "use the same family on both", "hosts %s and %s cannot meet: one has an IPv4 address, the other an IPv6 address", first.Name(), h.Name())
		}
		if a, b := first.Address.Addr(), h.Address.Addr(); a.Is6() && b.Is6() && linkLocal(a) != linkLocal(b) {
			r.invalid(h.Pos, "use link-local addresses on both, or on none", "hosts %s and %s cannot meet: only one has a link-local address", first.Name(), h.Name())
		}
		if a, b := first.Address.Addr(), h.Address.Addr(); a.IsValid() && b.IsValid() && a.IsLoopback() != b.IsLoopback() {
			r.warn(Warning{Position: h.Pos, Msg: fmt.Sprintf("hosts %s and %s meet on one machine only: of %s and %s one is a loopback address", first.Name(), h.Name(), a, b)})
		}
		for j := range res.Hosts[:i] {
			if h.Address.IsValid() && anyLink(h.Address) == anyLink(res.Hosts[j].Address) {
				r.invalid(h.Pos, "", "hosts %s and %s have the same address %s", res.Hosts[j].Name(), h.Name(), h.Address)
			}
		}
	}
}

// anyLink is an address without its interface. Each host names its own, so that does not make two addresses differ.
func anyLink(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// checkVolumes wants every volume of one host on the other.
func checkVolumes(resource string, have, other *Host, r *report) {
	for _, v := range have.Volumes {
		if other.Volume(v.Number) == nil {
			r.invalid(v.Pos, "give both hosts the same volumes", "volume %d of resource %s is on %s but not on %s", v.Number, resource, have.Name(), other.Name())
		}
	}
}

// checkBacking wants nothing of a host to be kept on a device that is there only while the resource itself is up. Another resource's
// device may be meant.
func checkBacking(resource string, h *Host, r *report) {
	own := map[string]bool{}
	for _, v := range h.Volumes {
		own[v.Device] = true
		own[fmt.Sprintf("/dev/ublkb%d", v.Minor)] = true
		own[fmt.Sprintf("/dev/urbd/by-res/%s/%d", resource, v.Number)] = true
	}
	for _, v := range h.Volumes {
		for _, name := range []string{v.Disk, v.MetaDisk.Device} {
			switch on := path.Clean(name); {
			case name == "":
			case own[on]:
				r.invalid(v.Pos, "name the disk, the logical volume or the file that is to hold it", "volume %d of resource %s is kept on %s, a device of this very resource", v.Number, resource, name)
			case strings.HasPrefix(on, "/dev/ublkb") || strings.HasPrefix(on, "/dev/urbd/"):
				r.warn(Warning{Position: v.Pos, Note: true, Msg: fmt.Sprintf("volume %d of resource %s is kept on %s, which has to be there first, and writable: a resource that it belongs to is up and Primary before this one comes up", v.Number, resource, name)})
			}
		}
	}
}
