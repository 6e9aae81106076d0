package bitmap

import (
	"encoding/binary"
	"math/bits"
)

// A cursor is the place in a bitmap up to which a transfer has come. Sender and
// receiver derive it alike: plain packets start at a word, and after a
// compressed packet that is the word of the last run's end, sent again.
// Source: docs/drbd-wire.md 10.4.
type cursor struct {
	bits int64 // of the bitmap
	bit  int64 // next bit of a compressed packet
	word int64 // next word of a plain packet
}

// words is the number of 64-bit words that the plain form still has.
func (c *cursor) words() int64 { return (c.bits+63)/64 - c.word }

func (c *cursor) skipWords(n int64) {
	c.word += n
	c.bit = min(c.word*64, c.bits)
}

func (c *cursor) skipTo(bit int64) {
	c.bit, c.word = bit, bit/64
}

// A Sender cuts a bitmap into the payloads of one bitmap exchange. Bits set
// behind its back are sent if their place is still ahead.
// Source: docs/drbd-wire.md 10.3, 10.4.
type Sender struct {
	b    *Bitmap
	rle  bool
	at   cursor
	done bool
}

// NewSender starts a transfer of b. With rle, packets that shrink by run
// lengths are sent so (both nodes agreed on use-rle).
func NewSender(b *Bitmap, rle bool) *Sender {
	return &Sender{b: b, rle: rle, at: cursor{bits: b.bits}}
}

// Next writes the payload of the next packet to dst, which must have room for
// MaxPayload bytes: n bytes of a P_COMPRESSED_BITMAP or a P_BITMAP. done comes
// with the last packet; after a plain packet that is a P_BITMAP of length 0,
// because the receiver stops only on "nothing remaining". To call Next again
// after done is a bug.
func (s *Sender) Next(dst []byte) (n int, compressed, done bool) {
	if s.done {
		panic("bitmap: Sender.Next after the last packet")
	}
	if s.b.bits != s.at.bits {
		panic("bitmap: the device was resized during a bitmap exchange")
	}
	dst = dst[:MaxPayload]
	if s.rle && s.at.bit < s.at.bits {
		if n := s.runs(dst); n > 0 {
			s.done = s.at.bit == s.at.bits
			return n, true, s.done
		}
	}
	n = s.plain(dst)
	s.done = n == 0
	return n, false, s.done
}

// plain writes as many words as fit and returns their bytes.
func (s *Sender) plain(dst []byte) int {
	n := min(s.at.words(), wordsPerPayload)
	for i := range n {
		binary.LittleEndian.PutUint64(dst[i*8:], s.b.Word(s.at.word+i))
	}
	s.at.skipWords(n)
	return int(n * 8)
}

// runs writes run lengths until dst is full or the bitmap ends, and returns the
// bytes used; 0, and nothing has moved, if the plain form is smaller.
func (s *Sender) runs(dst []byte) int {
	w := bitWriter{buf: dst[1:]}
	bit := s.at.bit
	set := s.b.Run(bit, 1) == 1
	head := byte(codeRLE)
	if set {
		head |= firstRunIsSet
	}
	for ; bit < s.at.bits; set = !set {
		end := s.b.runEnd(bit, set)
		if !w.put(encodeRun(end - bit)) {
			break
		}
		bit = end
	}
	if bit-s.at.bit < int64(w.bytes()*8) {
		return 0
	}
	s.at.skipTo(bit)
	dst[0] = head | byte(w.bytes()*8-w.at)<<padShift
	return 1 + w.bytes()
}

// runEnd is the end of the run at bit, whose bits are known to be set or clear.
func (b *Bitmap) runEnd(bit int64, set bool) int64 {
	v := b.Word(bit / 64)
	if set {
		v = ^v
	}
	if v >>= bit % 64; v != 0 { // the common case of a noisy bitmap: ends in its word
		return bit + int64(bits.TrailingZeros64(v))
	}
	if set {
		if end, ok := b.NextClear(bit); ok {
			return end
		}
	} else if end, ok := b.NextSet(bit); ok {
		return end
	}
	return b.bits
}
