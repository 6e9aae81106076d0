package sim

import (
	"github.com/urbd/urbd/replication/wire"
)

// packetReader shows the packets of a stream as they are sent.
type packetReader struct {
	buf  []byte
	skip int // bytes of a payload still to come
}

func (r *packetReader) feed(st *stream, b []byte) {
	if k := min(r.skip, len(b)); k > 0 {
		r.skip -= k
		b = b[k:]
	}
	r.buf = append(r.buf, b...)
	for len(r.buf) >= wire.HeaderLen100 {
		h, err := wire.DecodeHeader100(r.buf)
		if err != nil {
			st.from.n.s.fail("%s sends a header that does not decode: %v", st.from.n.name, err)
		}
		fixed := fixedLen(h)
		if len(r.buf) < wire.HeaderLen100+fixed {
			return
		}
		st.from.n.tell("%s> vol %d %s", [...]string{"data", "meta"}[st.sock], h.Volume, wire.Format(h.Cmd, r.buf[wire.HeaderLen100:][:fixed]))
		whole := wire.HeaderLen100 + int(h.Length)
		have := min(whole, len(r.buf))
		r.skip = whole - have
		r.buf = append(r.buf[:0], r.buf[have:]...)
	}
}

// fixedLen is the part of a packet that is shown.
func fixedLen(h wire.Header) int {
	switch h.Cmd {
	case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
		return 24
	}
	return int(h.Length)
}
