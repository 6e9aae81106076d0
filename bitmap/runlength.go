package bitmap

import "encoding/binary"

const (
	// MaxPayload is the largest payload of P_BITMAP and P_COMPRESSED_BITMAP with
	// the 16-byte header of protocol 100 and later: 4096 less the header. Fixed
	// by the wire: a plain packet must be exactly this long unless it is the last.
	MaxPayload = 4080

	wordsPerPayload = MaxPayload / 8

	codeRLE       = 2    // bits 0-3 of the encoding byte: run lengths
	codeMask      = 0x0f //
	padShift      = 4    // bits 4-6: unused bits at the top of the last code byte
	padMask       = 0x07 //
	firstRunIsSet = 0x80 // bit 7: the first run is of set bits
)

// level is one row of the code for run lengths. A run of v is sent as
// (v-min)<<prefixLen | prefix in totalLen bits, least significant bit first.
type level struct {
	totalLen, prefixLen int
	prefix              uint64
	min, max            int64
}

// levels is the variable-length code of P_COMPRESSED_BITMAP, tested in order
// when decoding. Fixed by the wire. Source: docs/drbd-wire.md 10.4.
var levels = [...]level{
	{2, 1, 0x00, 1, 2},
	{3, 2, 0x01, 3, 4},
	{5, 3, 0x03, 5, 8},
	{7, 4, 0x07, 9, 16},
	{10, 5, 0x0f, 17, 48},
	{14, 6, 0x1f, 49, 304},
	{21, 8, 0x3f, 305, 8496},
	{29, 8, 0x7f, 8497, 2105648},
	{42, 8, 0xbf, 2105649, 17181974832},
	{64, 8, 0xff, 17181974833, 0x100000400202130},
}

// encodeRun is the code word of a run of v bits, v >= 1.
func encodeRun(v int64) (code uint64, length int) {
	for i := range levels {
		if l := &levels[i]; v <= l.max {
			return uint64(v-l.min)<<l.prefixLen | l.prefix, l.totalLen
		}
	}
	panic("bitmap: a run longer than any device")
}

// decodeRun reads the code word at the low end of ahead.
func decodeRun(ahead uint64) (v int64, length int) {
	for i := range levels {
		l := &levels[i]
		if ahead&(1<<l.prefixLen-1) != l.prefix {
			continue
		}
		if l.totalLen < 64 {
			ahead &= 1<<l.totalLen - 1
		}
		return int64(ahead>>l.prefixLen) + l.min, l.totalLen
	}
	panic("bitmap: the prefixes of the run code do not cover all words")
}

// A bitWriter appends code words to buf, least significant bit first. The bytes
// it has not reached yet hold anything.
type bitWriter struct {
	buf []byte
	at  int // bits written
}

// put appends the low length bits of code, or reports that they do not fit.
func (w *bitWriter) put(code uint64, length int) bool {
	if length > len(w.buf)*8-w.at {
		return false
	}
	i, used := w.at/8, w.at%8
	w.at += length
	if used > 0 {
		w.buf[i] |= byte(code << used)
		code >>= 8 - used
		length -= 8 - used
		i++
	}
	for ; length > 0; length -= 8 {
		w.buf[i] = byte(code)
		code >>= 8
		i++
	}
	return true
}

// bytes is the number of bytes written, the last one maybe partly.
func (w *bitWriter) bytes() int { return (w.at + 7) / 8 }

// peek is the 64 bits of code from bit at on, least significant first; what
// lies behind the end reads as 0.
func peek(code []byte, at int) uint64 {
	i, used := at/8, at%8
	var near [16]byte
	copy(near[:9], code[i:])
	v := binary.LittleEndian.Uint64(near[:8]) >> used
	return v | uint64(near[8])<<1<<(63-used)
}
