package ublktest

import (
	"fmt"

	"github.com/urbd/urbd/ublk"
)

// Memory is a Handler over plain memory. It answers inside Handle, and serves every mode and operation.
type Memory struct{ Data []byte }

// Handle implements ublk.Handler.
func (m *Memory) Handle(r *ublk.Request) { r.Complete(m.do(r)) }

func (m *Memory) do(r *ublk.Request) error {
	if r.Off < 0 || r.Off > int64(len(m.Data))-r.Len {
		return fmt.Errorf("%v of %d bytes at %d of %d", r.Op, r.Len, r.Off, len(m.Data))
	}
	p := m.Data[r.Off : r.Off+r.Len]
	switch r.Op {
	case ublk.OpRead:
		return r.CopyIn(p, 0)
	case ublk.OpWrite:
		return r.CopyOut(p, 0)
	case ublk.OpDiscard, ublk.OpWriteZeroes:
		clear(p)
	}
	return nil
}
