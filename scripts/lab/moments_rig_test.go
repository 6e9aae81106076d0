//go:build rig

package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/scripts/vm"
	"github.com/urbd/urbd/scripts/vm/writelog"
)

// TestEveryMoment notes every write to both disks while files are written and synced, the daemon is killed and the connection lost, and then
// looks at what power cuts would have left: metadata that can be attached, a Primary's data in its activity log, and on a disk that says that it is
// consistent an ext4 without errors, with every file that had been synced.
func TestEveryMoment(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		const size = 320 << 20
		b := newBench(t, Options{Kernel: k, Size: size, Mapper: true, Extra: 512 << 20, Disk: []string{"al-extents 67"}})
		r := random(t)
		for _, n := range b.Nodes() {
			b.ok(b.Prepare(b.ctx, n))
			b.ok(b.Remap(b.ctx, n, 0, "log-writes %s "+b.ExtraDisk()))
		}
		b.ok(b.Up(b.ctx))
		b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", Resource+"/0")
		b.urbd(b.Alpha, "primary", Resource)
		b.mark("created", b.Nodes()...)
		b.writeFiles()
		b.mark("end", b.Nodes()...)
		b.ok(b.Stop(b.ctx)) // and the logs are whole
		b.compared()
		img, err := vm.Prepare(b.ctx, k, t.Logf)
		b.ok(err)
		for _, n := range b.Nodes() {
			m := moments{bench: b, node: n, tools: img.Tool, r: r}
			m.look(size)
		}
	})
}

// mark notes in the logs that something has been done, and is durable.
func (b *bench) mark(name string, nodes ...*vm.Node) {
	b.t.Helper()
	for _, n := range nodes {
		b.sh(n, "dmsetup message %s 0 mark %s", Mapped(0), name)
	}
}

// content is what a file holds.
func content(name string) string { return strings.Repeat(name+" is here. ", 3000) }

// writeFiles writes files one after the other, each synced before its mark, beside a writer that touches more extents than the activity log has room for.
func (b *bench) writeFiles() {
	b.t.Helper()
	b.sh(b.Alpha, "mkfs.ext4 -q -F -E nodiscard %s; mkdir -p /mnt; mount %[1]s /mnt; mkdir /mnt/files; sync -f /mnt", b.Device(b.Alpha, 0))
	b.mark("mkfs", b.Nodes()...)
	noise, err := b.Alpha.Start(b.ctx, vm.Cmd{Argv: []string{"fio", "--name=noise", "--filename=/mnt/noise", "--size=260M", "--rw=randwrite", "--bs=4k", "--direct=1",
		"--thread", "--fallocate=none", "--rate_iops=40", "--time_based", "--runtime=600", "--output-format=terse"}, Stderr: logWriter{b.t}})
	b.ok(err)
	file := func(name string, nodes ...*vm.Node) {
		b.t.Helper()
		b.sh(b.Alpha, "cat > /mnt/files/%s.new <<X\n%s\nX\nsync /mnt/files/%[1]s.new; mv /mnt/files/%[1]s.new /mnt/files/%[1]s; sync -f /mnt", name, content(name))
		b.mark("file-"+name, nodes...)
	}
	for i := range times(2) {
		for _, step := range []string{"a", "b"} {
			file(fmt.Sprintf("%s%d", step, i), b.Nodes()...)
		}
		switch i % 3 {
		case 0:
			b.sh(b.Alpha, "pid=$(cat /run/urbd/r0.lock); kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; urbd up r0")
		case 1:
			b.ok(b.CutWire())
			b.state(b.Alpha, "cstate", "WFConnection")
			file(fmt.Sprintf("alone%d", i), b.Alpha)
			b.ok(b.JoinWire())
		case 2:
			b.urbd(b.Beta, "invalidate", Resource)
		}
		file(fmt.Sprintf("c%d", i), b.Alpha) // perhaps beta is being resynced
		b.state(b.Alpha, "cstate", "Connected")
		b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	}
	b.ok(noise.Signal(2))
	<-noise.Done()
	b.sh(b.Alpha, "umount /mnt")
	b.urbd(b.Alpha, "secondary", Resource)
}

// moments goes through one node's log.
type moments struct {
	*bench
	*Moments
	node  *vm.Node
	tools Tools
	r     *rand.Rand
}

func (m *moments) look(size int64) {
	m.t.Helper()
	f, err := os.Open(m.ExtraPath(m.node))
	m.ok(err)
	defer f.Close()
	log, err := writelog.Read(f)
	m.ok(err)
	m.Moments, err = NewMoments(log, size)
	m.ok(err)
	seen := map[string]int{}
	points := times(25)
	for i := range log.Entries {
		_, err := m.Step()
		if err != nil {
			m.t.Errorf("%s, entry %d, after %v: %v", m.node.Name(), i, m.Marks, err)
			return
		}
		if len(m.Marks) == 0 || !log.Entries[i].Is(writelog.Mark) && m.r.IntN(len(log.Entries)) >= points {
			continue
		}
		kind, err := m.cutHere(log.Entries[i].Is(writelog.Mark))
		if err != nil {
			m.t.Errorf("%s, a power cut at entry %d of %d, after the marks %v: %v", m.node.Name(), i, len(log.Entries), m.Marks, err)
			return
		}
		seen[kind]++
	}
	m.t.Logf("%s: %d entries, %d marks; power cuts leave: %v", m.node.Name(), len(log.Entries), len(m.Marks), seen)
}

// cutHere is what one power cut leaves; it says in a word what kind of disk it is. Inconsistent is only that of a resync's target, which
// gets no mark.
func (m *moments) cutHere(marked bool) (kind string, err error) {
	disk, err := m.replay.Cut(m.r)
	if err != nil {
		return "", err
	}
	sb, err := m.CheckMetadata(disk)
	switch {
	case err != nil:
		return "", err
	case len(m.Marks) == 1:
		return "no file system yet", nil
	case !sb.Flags.Has(metadata.Consistent) && (marked || m.node == m.Alpha):
		return "", fmt.Errorf("the disk is not consistent: %v", sb.Flags)
	case !sb.Flags.Has(metadata.Consistent):
		return "inconsistent", nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	files, err := m.CheckExt4(ctx, m.tools, disk, "files")
	if err != nil {
		return "", err
	}
	for _, mark := range m.Marks {
		name, ok := strings.CutPrefix(mark, "file-")
		if ok && string(files[name]) != content(name)+"\n" {
			return "", fmt.Errorf("file %s had been synced and holds %.40q", name, files[name])
		}
	}
	return "consistent", nil
}
