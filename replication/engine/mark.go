package engine

// servedBlock is a resync block on its way to the Target, until the Target has
// acknowledged it.
type servedBlock struct {
	off, n int64
	old    bool // the range was marked again since: the acknowledgement says nothing of what is here now
}

// mark notes that a range differs from the peer's. Acknowledgements of what was
// sent before, which are on their way, do not take that back.
func (e *Engine) mark(v *volume, off, n int64) {
	v.setOutOfSync(off, n)
	for i := range v.resync.served {
		if s := &v.resync.served[i]; s.off < off+n && off < s.off+s.n {
			s.old = true
		}
	}
	open := &e.conn.epochs.open
	for i := range open.len() {
		for w := open.at(i).first; w != nil; w = w.next {
			if w.vol == v && w.off < off+n && off < w.off+w.n {
				w.old = true
			}
		}
	}
}

// takeServed ends the oldest block that was served for a range, and tells
// whether its acknowledgement is good for the range as it is now.
func (r *resync) takeServed(off, n int64) (current bool) {
	for i, s := range r.served {
		if s.off == off && s.n == n {
			r.served = append(r.served[:i], r.served[i+1:]...)
			return !s.old
		}
	}
	return false
}
