package ublktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/urbd/urbd/ublk"

	"golang.org/x/sys/unix"
)

// errorMapping checks what applications get for the errors of handlers, and that a failed read shows no old memory.
func errorMapping(t *testing.T, b *bench) {
	d := b.start(ublk.Config{})
	k := openDisk(t, d.Path(), 0)
	p := make([]byte, 16<<10)
	pattern(p, 1)
	k.mustWrite(p, 0)
	for _, remote := range []bool{false, true} {
		for _, c := range []struct {
			err  error
			want unix.Errno
		}{
			{unix.EIO, unix.EIO},
			{unix.ENOSPC, unix.ENOSPC},
			{unix.ETIMEDOUT, unix.ETIMEDOUT},
			{unix.ENOLINK, unix.ENOLINK},
			{unix.EREMOTEIO, unix.EREMOTEIO},
			{unix.EBADE, unix.EBADE},
			{unix.ENODATA, unix.ENODATA},
			{unix.EILSEQ, unix.EILSEQ},
			{unix.EPERM, unix.EIO}, // the block layer has no word for it
			{fmt.Errorf("disk full: %w", unix.ENOSPC), unix.ENOSPC},
			{context.DeadlineExceeded, unix.ETIMEDOUT},
			{errors.ErrUnsupported, unix.EOPNOTSUPP},
			{errors.New("something else"), unix.EIO},
		} {
			d.watch.set(func(w *watch) { w.inject, w.remote = func(*ublk.Request) error { return c.err }, remote })
			if err := k.write(p, 0); err != c.want {
				t.Errorf("a write that fails with %q answers %v instead of %v", c.err, err, c.want)
			}
			got, err := k.read(len(p), 0)
			if err != c.want {
				t.Errorf("a read that fails with %q answers %v instead of %v", c.err, err, c.want)
			}
			if bytes.Equal(got, p) {
				t.Errorf("a read that fails with %q brings data", c.err)
			}
		}
	}
	d.watch.set(func(w *watch) { w.inject, w.remote = nil, false })
	k.wantData(p, 0) // nothing reached the store, and the disk still works
}
