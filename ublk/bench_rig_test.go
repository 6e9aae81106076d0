//go:build rig

package ublk

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// BenchmarkRandomRead reports what fio reads at depth 32 from a device that answers at once, in every mode, and from one over a ramdisk
// (modprobe brd rd_size=65536), beside the ramdisk itself.
func BenchmarkRandomRead(b *testing.B) {
	const ramdisk = "/dev/ram0"
	b.Run("ramdisk itself", func(b *testing.B) { fioRead(b, ramdisk) })
	for _, mode := range kernelModes(b) {
		b.Run("null "+mode.String(), func(b *testing.B) {
			d := create(b, Config{Mode: mode, Geometry: Geometry{Size: 64 << 20}})
			newOwner(b, d).serve(d, HandlerFunc(func(r *Request) { r.Complete(nil) }))
			fioRead(b, d.Path())
		})
		if mode == ModeUserCopy {
			continue
		}
		b.Run("ramdisk "+mode.String(), func(b *testing.B) {
			fd, err := unix.Open(ramdisk, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(fd)
			d := create(b, Config{Mode: mode, Geometry: Geometry{Size: 64 << 20}})
			o := newOwner(b, d)
			o.serve(d, &passThrough{ring: o.ring, file: uring.FD(fd), reqs: make([]*Request, d.cfg.Depth)})
			fioRead(b, d.Path())
		})
	}
}

// passThrough sends reads and writes on to a file, as the loop example does.
type passThrough struct {
	ring *uring.Ring
	file uring.File
	reqs []*Request
}

func (p *passThrough) Handle(r *Request) {
	p.reqs[r.tag] = r
	if r.Op == OpRead {
		p.ring.Prep(r.ReadOp(p.file, 0, r.Len, r.Off), p, uint64(r.tag))
	} else {
		p.ring.Prep(r.WriteOp(p.file, 0, r.Len, r.Off), p, uint64(r.tag))
	}
}

func (p *passThrough) Complete(tag uint64, res int32, _ uint32) {
	if r := p.reqs[tag]; int64(res) == r.Len {
		r.Complete(nil)
	} else {
		r.Complete(unix.EIO)
	}
}

func fioRead(b *testing.B, path string) {
	b.Helper()
	for b.Loop() {
		out, err := exec.Command("fio", "--name=read", "--filename="+path, "--direct=1", "--rw=randread", "--bs=4k", "--size=60M",
			"--ioengine=libaio", "--iodepth=32", "--runtime=4", "--time_based", "--output-format=json").Output()
		if err != nil {
			b.Fatal(err)
		}
		var r struct {
			Jobs []struct{ Read struct{ IOPS float64 } }
		}
		if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) != 1 {
			b.Fatal(fmt.Errorf("%s: %w", out, err))
		}
		b.ReportMetric(r.Jobs[0].Read.IOPS, "IOPS")
	}
}
