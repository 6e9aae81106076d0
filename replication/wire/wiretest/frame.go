package wiretest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// segment is the part of a TCP or UDP packet that matters here.
type segment struct {
	udp      bool
	src, dst netip.AddrPort
	seq      uint32
	syn, ack bool
	fin, rst bool
	data     []byte
}

const (
	etherLen  = 14
	etherIPv4 = 0x0800
	ipTCP     = 6
	ipUDP     = 17
)

// parseFrame takes an Ethernet frame apart. ok is false for frames of other
// protocols (ARP, IPv6, ICMP), which the recordings may contain.
func parseFrame(b []byte) (s segment, ok bool, err error) {
	if len(b) < etherLen || binary.BigEndian.Uint16(b[12:]) != etherIPv4 {
		return segment{}, false, nil
	}
	b = b[etherLen:]
	if len(b) < 20 || b[0]>>4 != 4 {
		return segment{}, false, fmt.Errorf("a broken IPv4 header")
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) // left open by segmentation offload
	}
	if head < 20 || head > total || total > len(b) {
		return segment{}, false, fmt.Errorf("IPv4 lengths %d, %d of %d bytes", head, total, len(b))
	}
	if frag := binary.BigEndian.Uint16(b[6:]); frag&0x3fff != 0 {
		return segment{}, false, fmt.Errorf("an IPv4 fragment")
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	proto, b := b[9], b[head:total]
	switch {
	case proto == ipUDP && len(b) >= 8:
		s = segment{udp: true, data: b[8:]}
	case proto == ipTCP && len(b) >= 20:
		off := int(b[12]>>4) * 4
		if off < 20 || off > len(b) {
			return segment{}, false, fmt.Errorf("a TCP header of %d in %d bytes", off, len(b))
		}
		s = segment{
			seq: binary.BigEndian.Uint32(b[4:]),
			fin: b[13]&0x01 != 0, syn: b[13]&0x02 != 0, rst: b[13]&0x04 != 0, ack: b[13]&0x10 != 0,
			data: b[off:],
		}
	default:
		return segment{}, false, nil
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	return s, true, nil
}
