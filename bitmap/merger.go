package bitmap

import (
	"encoding/binary"
	"fmt"
)

// A DecodeError says why a payload of the bitmap exchange is not one. The peer
// broke the protocol: the connection has to end.
type DecodeError struct {
	Packet string // P_BITMAP or P_COMPRESSED_BITMAP
	Reason string
}

func (e *DecodeError) Error() string { return e.Packet + ": " + e.Reason }

// A Merger adds a peer's bitmap to ours, payload by payload: a block is out of
// sync if either side says so. Bits of packets before a malformed one stay
// merged, which errs on the safe side. Source: docs/drbd-wire.md 10.3, 10.4.
type Merger struct {
	b    *Bitmap
	at   cursor
	done bool
}

// NewMerger starts to receive a bitmap of as many bits as b has. Once b is
// resized, the transfer cannot go on: every further payload is refused.
func NewMerger(b *Bitmap) *Merger {
	return &Merger{b: b, at: cursor{bits: b.bits}}
}

// Plain merges the payload of one P_BITMAP. done is true with the last packet
// of the transfer, the empty one. The error is a *DecodeError.
func (m *Merger) Plain(p []byte) (done bool, err error) {
	const packet = "P_BITMAP"
	switch {
	case m.done:
		return true, &DecodeError{packet, "packet after the end of the bitmap"}
	case m.b.bits != m.at.bits:
		return false, &DecodeError{packet, "the device was resized during the exchange"}
	}
	want := min(m.at.words(), wordsPerPayload) * 8
	if int64(len(p)) != want {
		return false, &DecodeError{packet, fmt.Sprintf("payload of %d bytes at bit %d, expected %d", len(p), m.at.bit, want)}
	}
	for i := 0; i < len(p); i += 8 {
		if v := binary.LittleEndian.Uint64(p[i:]); v != 0 {
			m.b.orWord(m.at.word+int64(i/8), v)
		}
	}
	m.at.skipWords(want / 8)
	m.done = want == 0
	return m.done, nil
}

// Compressed merges the payload of one P_COMPRESSED_BITMAP. done is true if its
// last run ends at the end of the bitmap, which ends the transfer. The error is
// a *DecodeError; runs before the malformed one stay merged.
func (m *Merger) Compressed(p []byte) (done bool, err error) {
	bad := func(format string, args ...any) (bool, error) {
		return m.done, &DecodeError{"P_COMPRESSED_BITMAP", fmt.Sprintf(format, args...)}
	}
	switch {
	case m.done:
		return bad("packet after the end of the bitmap")
	case m.b.bits != m.at.bits:
		return bad("the device was resized during the exchange")
	case len(p) < 2 || len(p) > MaxPayload:
		return bad("payload of %d bytes, expected 2 to %d", len(p), MaxPayload)
	case p[0]&codeMask != codeRLE:
		return bad("unknown encoding %d", p[0]&codeMask)
	}
	code := p[1:]
	end := len(code)*8 - int(p[0]>>padShift&padMask)
	set, bit := p[0]&firstRunIsSet != 0, m.at.bit
	for at := 0; at < end; set = !set {
		run, length := decodeRun(peek(code, at))
		if length > end-at {
			return bad("run length cut off by the end of the packet")
		}
		if run > m.at.bits-bit {
			return bad("run of %d bits at bit %d of %d", run, bit, m.at.bits)
		}
		if set {
			m.b.setBits(bit, bit+run)
		}
		bit, at = bit+run, at+length
	}
	m.at.skipTo(bit)
	m.done = bit == m.at.bits
	return m.done, nil
}

// orWord adds the bits of v to word w; bits past the end are ignored.
func (b *Bitmap) orWord(w int64, v uint64) {
	p, i := int(w/wordsPerPage), int(w%wordsPerPage)
	v &= mask(i, 0, b.pageBits(p))
	if v&^b.Word(w) == 0 {
		return
	}
	pg := b.own(p)
	had := pg.ones(i*64, i*64+64)
	pg[i] |= v
	b.recount(p, int(b.count[p])+pg.ones(i*64, i*64+64)-had)
	b.mustSave.put(p, true)
}
