package replication

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A thin is a volume of a device-mapper thin pool.
type thin struct {
	chunk        int64 // bytes of the pool's chunks
	origin       bool  // what is not allocated reads as another device's data
	skipsZeroing bool  // a chunk that is new holds what was there before, but for what is written
	ragged       bool  // the chunks do not begin where the device above, a part of the volume, does
}

// mapper gives the tables of the device mapper's devices.
type mapper func(dev uint64) ([]dmTarget, error)

// mostMaps is how many linear maps may lie on a thin volume, one on the other.
const mostMaps = 16

// thinBelow looks whether a block device is a thin volume, or a part of one: below may be linear maps, which pass on what they get. It
// reads the volume's table and its pool's. Nothing else is looked through: what is discarded below dm-crypt reads as decrypted zeroes.
// False: it is no thin volume, or nobody can tell.
func (table mapper) thinBelow(dev uint64) (thin, bool) {
	start := int64(0) // bytes into the device below
	for range mostMaps {
		volume, err := table(dev)
		if err != nil || len(volume) != 1 || len(volume[0].args) < 2 {
			return thin{}, false
		}
		below, ok := parseDev(volume[0].args[0])
		if !ok {
			return thin{}, false
		}
		switch volume[0].kind {
		case "linear":
			sectors, err := strconv.ParseInt(volume[0].args[1], 10, 54)
			if err != nil || sectors < 0 {
				return thin{}, false
			}
			dev, start = below, start+sectors<<9
		case "thin":
			pool, err := table(below)
			if err != nil || len(pool) != 1 || pool[0].kind != "thin-pool" {
				return thin{}, false
			}
			t, ok := readThin(volume[0], pool[0])
			t.ragged = ok && start%t.chunk != 0
			return t, ok
		default:
			return thin{}, false
		}
	}
	return thin{}, false
}

// readThin understands "thin POOL ID [ORIGIN]" and "thin-pool META DATA SECTORS LOW [COUNT FEATURE...]".
func readThin(volume, pool dmTarget) (thin, bool) {
	if len(volume.args) < 2 || len(pool.args) < 4 {
		return thin{}, false
	}
	sectors, err := strconv.ParseInt(pool.args[2], 10, 32)
	if err != nil || sectors <= 0 {
		return thin{}, false
	}
	t := thin{chunk: sectors << 9, origin: len(volume.args) > 2}
	for _, feature := range pool.args[4:] {
		t.skipsZeroing = t.skipsZeroing || feature == "skip_block_zeroing"
	}
	return t, true
}

// parseDev reads "254:1".
func parseDev(s string) (uint64, bool) {
	major, minor, ok := strings.Cut(s, ":")
	a, err := strconv.ParseUint(major, 10, 32)
	b, berr := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(a), uint32(b)), ok && err == nil && berr == nil
}

// A dmTarget is one line of a table.
type dmTarget struct {
	kind string
	args []string
}

// dmHeader is struct dm_ioctl of <linux/dm-ioctl.h>, 312 bytes; answers follow it.
type dmHeader struct {
	Version               [3]uint32
	DataSize, DataStart   uint32 // bytes, of all and of what comes before the answer
	TargetCount           uint32
	OpenCount             int32
	Flags, EventNr, Align uint32
	Dev                   uint64
	Name                  [128]byte
	UUID                  [129]byte
	Pad                   [7]byte
}

// dmSpec is struct dm_target_spec, 40 bytes; the arguments follow it as a C string.
type dmSpec struct {
	Start, Length uint64 // sectors
	Status        int32
	Next          uint32 // bytes from the first spec to the next
	Kind          [16]byte
}

const (
	dmTableStatus = 0xc138fd0c // _IOWR(0xfd, 12, struct dm_ioctl)
	dmWantTable   = 1 << 4     // DM_STATUS_TABLE_FLAG: the table, not what the targets are doing
	dmBufferFull  = 1 << 8     // DM_BUFFER_FULL_FLAG
	dmAnswer      = 16 << 10   // bytes; a thin volume and its pool need one target each
)

// dmTable asks the device mapper for the table of one of its devices.
func dmTable(dev uint64) ([]dmTarget, error) {
	fd, err := unix.Open("/dev/mapper/control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/mapper/control: %w", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, dmAnswer)
	h := (*dmHeader)(unsafe.Pointer(unsafe.SliceData(buf)))
	h.Version = [3]uint32{4, 0, 0}
	h.DataSize, h.DataStart = uint32(len(buf)), uint32(unsafe.Sizeof(*h))
	h.Flags, h.Dev = dmWantTable, dev
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), dmTableStatus, uintptr(unsafe.Pointer(h))); errno != 0 {
		return nil, fmt.Errorf("table of device %d:%d: %w", unix.Major(dev), unix.Minor(dev), errno)
	}
	if h.Flags&dmBufferFull != 0 || int64(h.DataStart) > int64(len(buf)) {
		return nil, fmt.Errorf("table of device %d:%d: it is longer than expected", unix.Major(dev), unix.Minor(dev))
	}
	return readTargets(buf[h.DataStart:], int(h.TargetCount))
}

// readTargets takes an answer of the device mapper apart.
func readTargets(data []byte, count int) ([]dmTarget, error) {
	const head = int(unsafe.Sizeof(dmSpec{}))
	var out []dmTarget
	at := 0
	for range count {
		if at < 0 || at > len(data)-head {
			return nil, fmt.Errorf("device mapper: the answer ends in target %d", len(out))
		}
		var spec dmSpec
		if _, err := binary.Decode(data[at:at+head], binary.NativeEndian, &spec); err != nil {
			return nil, err
		}
		args, _, _ := bytes.Cut(data[at+head:], []byte{0})
		kind, _, _ := bytes.Cut(spec.Kind[:], []byte{0})
		out = append(out, dmTarget{string(kind), strings.Fields(string(args))})
		at = int(spec.Next)
	}
	return out, nil
}
