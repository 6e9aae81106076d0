package wiretest

// stream puts one direction of a TCP connection together. Segments may come
// twice, overlap and come in any order.
type stream struct {
	started bool
	syn     uint32 // sequence number of the SYN
	next    uint32 // sequence number that is due
	fin     bool   // the FIN was seen in its place
	early   []piece
}

type piece struct {
	seq  uint32
	fin  bool
	data []byte
}

// start notes the sequence number of the SYN; the bytes follow it.
func (s *stream) start(seq uint32) {
	if !s.started {
		s.started, s.syn, s.next = true, seq, seq+1
	}
}

// add takes a segment in and gives the bytes that are now in order, nil where
// there are none yet.
func (s *stream) add(seq uint32, data []byte, fin bool) []byte {
	if !s.started || len(data) == 0 && !fin {
		return nil
	}
	s.early = append(s.early, piece{seq, fin, data})
	var out []byte
	for again := true; again; {
		again = false
		for i, p := range s.early {
			if ahead := int32(p.seq - s.next); ahead > 0 {
				continue
			}
			old := s.next - p.seq // bytes that came before
			if fresh := uint32(len(p.data)); fresh > old {
				out = append(out, p.data[old:]...)
				s.next += fresh - old
			}
			s.fin = s.fin || p.fin
			s.early = append(s.early[:i], s.early[i+1:]...)
			again = true
			break
		}
	}
	return out
}

// gap reports whether bytes are missing in front of some that came.
func (s *stream) gap() bool {
	for _, p := range s.early {
		if len(p.data) > 0 {
			return true
		}
	}
	return false
}
