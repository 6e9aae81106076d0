package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urbd/urbd/scripts/lab"
	"github.com/urbd/urbd/scripts/vm"
)

const diskSize = 256 << 20

// play is the story, act by act.
func play(ctx context.Context, s *stage) error {
	s.say("Building urbd and booting two virtual machines, alpha and beta, on stock Debian kernels.")
	s.note("Kernel and tools are downloaded once; this machine's own disks are not touched.")
	packages := sync.OnceFunc(func() { s.note("(the first run downloads packages, which takes a while)") })
	l, err := lab.Start(ctx, lab.Options{Kernel: vm.Linux7, Size: diskSize, Log: func(string, ...any) { packages() }})
	if err != nil {
		return err
	}
	defer l.Close()
	s.note("both are up, Linux %s, each with a disk of %d MiB", l.Alpha.Release(), diskSize>>20)

	for _, act := range []func(context.Context, *stage, *lab.Lab) error{connect, fill, failover, comeback, compare} {
		if err := act(ctx, s, l); err != nil {
			return err
		}
	}
	return nil
}

// connect creates the replicated disk.
func connect(ctx context.Context, s *stage, l *lab.Lab) error {
	s.say("Creating metadata on both disks and connecting the nodes: urbd create-md r0; urbd up r0")
	if err := l.Up(ctx); err != nil {
		return err
	}
	s.note("the nodes have met")
	s.say("Making alpha Primary; its disk is copied to beta: urbd primary --force r0")
	if _, err := l.Urbd(ctx, l.Alpha, "primary", "--force", lab.Resource); err != nil {
		return err
	}
	if err := progress(ctx, l, l.Beta); err != nil {
		return err
	}
	return status(ctx, s, l, l.Alpha)
}

// fill uses the disk as anybody would.
func fill(ctx context.Context, s *stage, l *lab.Lab) error {
	s.say("An ext4 file system on alpha's /dev/ublkb0, some files, and fio that verifies what it writes.")
	_, err := l.Alpha.Sh(ctx, `set -e
modprobe ext4 2>/dev/null || true
mkfs.ext4 -q -F /dev/ublkb0
mkdir -p /mnt && mount /dev/ublkb0 /mnt
mkdir /mnt/files
for i in $(seq 1 20); do head -c $((i * 40000)) /dev/urandom > /mnt/files/$i; done
(cd /mnt/files && sha256sum * > /mnt/sums)
sync`)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(l.Alpha))
	}
	s.note("20 files written, with their checksums")
	_, err = l.Alpha.Run(ctx, "fio", "--name=verify", "--filename=/mnt/fio", "--size=24M", "--rw=randwrite", "--bs=4k",
		"--ioengine=libaio", "--iodepth=16", "--direct=1", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1", "--output-format=terse")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(l.Alpha))
	}
	s.note("fio wrote 24 MiB in random order and read all of it back correctly")
	return nil
}

// failover cuts the Primary's power while it writes, and goes on with the other node.
func failover(ctx context.Context, s *stage, l *lab.Lab) error {
	s.say("Cutting alpha's power in the middle of writing.")
	synced, err := writeUntilCut(ctx, s, l)
	if err != nil {
		return err
	}
	s.say("Promoting beta, which now has the only copy that is up: urbd primary r0")
	if _, err := l.Urbd(ctx, l.Beta, "primary", lab.Resource); err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(l.Beta))
	}
	if _, err := l.Beta.Sh(ctx, `modprobe ext4 2>/dev/null || true; mkdir -p /mnt && mount /dev/ublkb0 /mnt`); err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(l.Beta))
	}
	s.note("beta has mounted the file system")
	if _, err := l.Beta.Sh(ctx, `cd /mnt/files && sha256sum -c ../sums`); err != nil {
		return fmt.Errorf("the files are damaged: %w", err)
	}
	s.note("all 20 files have their checksums")
	r, err := l.Beta.Sh(ctx, fmt.Sprintf(`cd /mnt/records && for i in $(seq 1 %d); do [ "$(cat $i 2>/dev/null)" = "record $i" ] || { echo lost $i; exit 1; }; done; ls | wc -l`, synced))
	if err != nil {
		return fmt.Errorf("a record that was synced is lost: %s: %w", r.Text(), err)
	}
	s.note("all %d records that alpha had synced before the cut are there (%s in all)", synced, r.Text())
	if _, err := l.Beta.Sh(ctx, `for i in $(seq 1 20); do head -c 300000 /dev/urandom > /mnt/new$i; done; sync`); err != nil {
		return err
	}
	s.note("beta goes on working: 20 new files")
	return nil
}

// writeUntilCut has alpha write numbered records, each synced before its number
// is told, and cuts the power at some point. It returns the last number that was told.
func writeUntilCut(ctx context.Context, s *stage, l *lab.Lab) (int, error) {
	var told progressBuffer
	p, err := l.Alpha.Start(ctx, vm.Cmd{Argv: []string{"sh", "-c",
		`mkdir /mnt/records; i=0; while :; do i=$((i+1)); echo "record $i" > /mnt/records/$i; sync /mnt/records/$i /mnt/records; echo $i; done`},
		Stdout: &told})
	if err != nil {
		return 0, err
	}
	const enough = 25
	for told.last() < enough {
		select {
		case <-p.Done():
			return 0, fmt.Errorf("the writer ended early\n%s", l.Diagnose(l.Alpha))
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	l.Alpha.PowerCut()
	n := told.last()
	s.note("alpha had synced %d records, one after the other, when it died", n)
	return n, nil
}

// comeback boots the old Primary again.
func comeback(ctx context.Context, s *stage, l *lab.Lab) error {
	s.say("Booting alpha again: urbd up r0 copies what it missed, and the extents of 4 MiB that it was writing to when it died.")
	if err := l.Alpha.BootAgain(ctx); err != nil {
		return err
	}
	if err := l.Prepare(ctx, l.Alpha); err != nil {
		return err
	}
	if _, err := l.Urbd(ctx, l.Alpha, "up", lab.Resource); err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(l.Alpha))
	}
	if err := progress(ctx, l, l.Alpha); err != nil {
		return err
	}
	return status(ctx, s, l, l.Beta)
}

// compare proves that both disks are identical.
func compare(ctx context.Context, s *stage, l *lab.Lab) error {
	s.say("Taking everything down and comparing both disks byte by byte.")
	if _, err := l.Beta.Sh(ctx, "umount /mnt"); err != nil {
		return err
	}
	if err := l.Stop(ctx); err != nil {
		return err
	}
	n, err := l.Compare()
	if err != nil {
		return err
	}
	s.note("%d bytes are equal", n)
	return nil
}

// progress shows the resync until both disks are UpToDate.
func progress(ctx context.Context, l *lab.Lab, n *vm.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if _, err := l.Urbd(ctx, n, "wait-connect", lab.Resource); err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(n))
	}
	p, err := n.Start(ctx, vm.Cmd{Argv: []string{"urbd", "wait-sync", lab.Resource}, Stdout: os.Stdout, Stderr: os.Stdout,
		Terminal: true, Rows: 24, Cols: 100})
	if err != nil {
		return err
	}
	code, err := p.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("urbd wait-sync ended with %d", code)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, l.Diagnose(n))
	}
	return l.WaitUpToDate(ctx, n)
}

func status(ctx context.Context, s *stage, l *lab.Lab, n *vm.Node) error {
	r, err := l.Urbd(ctx, n, "status", lab.Resource)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(r.Text(), "\n") {
		s.note("  %s", line)
	}
	return nil
}

// progressBuffer collects lines with rising numbers.
type progressBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	n   int
}

func (b *progressBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	for {
		line, err := b.buf.ReadString('\n')
		if errors.Is(err, io.EOF) {
			b.buf.Reset()
			b.buf.WriteString(line)
			return len(p), nil
		}
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			b.n = n
		}
	}
}

func (b *progressBuffer) last() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}
