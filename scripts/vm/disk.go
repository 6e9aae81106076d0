package vm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"

	"github.com/urbd/urbd/scripts/vm/volatile"
)

// A CacheMode says what a power cut leaves of a disk.
type CacheMode string

const (
	// Writeback keeps every completed write, flushed or not: the host's memory
	// outlives the guest. Fast; the disk to use when the cut is not the question.
	Writeback CacheMode = "writeback"
	// Direct passes writes to the host's disk past its memory (O_DIRECT). What the host's
	// disk had taken survives.
	Direct CacheMode = "none"
	// Volatile has a cache that forgets: of what was written and not flushed, a cut
	// loses all, half, a tenth or nothing, sector by sector. The disk for asking
	// what survives. See package volatile.
	Volatile CacheMode = "volatile"
	// Unsafe ignores flushes. Fastest.
	Unsafe CacheMode = "unsafe"
)

// A Disk is a file of this machine that a guest sees as /dev/vda, vdb, … in
// the order of Config.Disks.
type Disk struct {
	Path  string    // made sparse when it does not exist
	Size  int64     // bytes; 0 keeps the size of an existing file
	Cache CacheMode // "" is Writeback
	Block int       // logical block size in bytes; 0 is 512

	NoWriteZeroes bool // it discards, and cannot write zeroes by itself
}

// served is a volatile disk and its server. It outlives the boots of its node.
type served struct {
	disk   *volatile.Disk
	server *volatile.Server
}

// serve starts serving a volatile disk on a socket.
func (d Disk) serve(socket string) (*served, error) {
	disk, err := volatile.Open(d.Path, rand.Uint64())
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		disk.Close()
		return nil, fmt.Errorf("disk: %w", err)
	}
	return &served{disk: disk, server: volatile.Serve(disk, l)}, nil
}

func (s *served) close() error { return errors.Join(s.server.Close(), s.disk.Close()) }

// prepare makes the file and its size.
func (d Disk) prepare() error {
	f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	switch {
	case d.Size == 0 && info.Size() == 0:
		return fmt.Errorf("disk %s: a new disk needs a size", d.Path)
	case info.Mode().IsRegular() && info.Size() < d.Size:
		if err := f.Truncate(d.Size); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
	}
	return nil
}

// args are QEMU's options for the disk; a volatile one is reached at its socket.
func (d Disk) args(i int, socket string) []string {
	backend := fmt.Sprintf("cache=%s,file=%s", d.Cache, escape(d.Path))
	if d.Cache == Volatile {
		backend = "cache=writeback,file.driver=nbd,file.server.type=unix,file.server.path=" + escape(socket)
	}
	device := fmt.Sprintf("virtio-blk-pci,drive=disk%d,serial=rig%d", i, i)
	if d.Block != 0 {
		device += fmt.Sprintf(",logical_block_size=%[1]d,physical_block_size=%[1]d", d.Block)
	}
	if d.NoWriteZeroes {
		device += ",write-zeroes=off"
	}
	return []string{"-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,discard=unmap,%s", i, backend), "-device", device}
}

// A NIC is a network card of a guest, eth0, eth1, … in the order of
// Config.NICs. Its wire is a socket file that one end listens on and the other
// connects to; nothing of the host's network is involved.
type NIC struct {
	Wire    string // path of the socket
	Listen  bool   // this end listens; the other end connects, again and again
	Address string // of the interface, like "10.77.0.1/24"; "" leaves it down
	MAC     string // "" lets QEMU choose: the same for every guest
}

func (n NIC) args(i int) []string {
	netdev := fmt.Sprintf("stream,id=wire%d,addr.type=unix,addr.path=%s", i, escape(n.Wire))
	if n.Listen {
		netdev += ",server=on"
	} else {
		netdev += ",server=off,reconnect-ms=200"
	}
	device := fmt.Sprintf("virtio-net-pci,id=nic%d,netdev=wire%d,romfile=", i, i)
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	return []string{"-netdev", netdev, "-device", device}
}
