package engine

import (
	"fmt"
	"math/bits"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// sendSizes sends P_SIZES.
func (e *Engine) sendSizes(v *volume) {
	q := e.sending(DataSock)
	if q == nil {
		return
	}
	p := wire.Sizes{
		USize: wire.SectorOf(v.cfg.Disk.Size), CSize: wire.SectorOf(v.size), MaxBioSize: wire.MaxRequest,
		Queue: wire.QueueLimits{PhysicalBlockSize: PageSize, LogicalBlockSize: smallestBlock, DiscardEnabled: 1},
	}
	if v.hasDisk() {
		p.DSize = wire.SectorOf(v.offers())
		p.Queue.LogicalBlockSize = uint32(max(v.block, v.dataBlock, v.blockInUse()))
	}
	q.packet(wire.CmdSizes, v.number, wire.SizesLen(wire.FeatureFlags(e.conn.features)))
	if e.conn.features&featureWSame != 0 {
		q.heads = p.Append(q.heads)
	} else {
		q.heads = p.AppendShort(q.heads)
	}
}

// peerSizesReceived decides the size of the device (wire 7.3).
func (e *Engine) peerSizesReceived(v *volume, p wire.Sizes) error {
	const sector = wire.SectorSize
	v.peer = peerSizes{
		disk: int64(p.DSize) * sector, user: int64(p.USize) * sector, current: int64(p.CSize) * sector, block: v.peer.block, known: true,
	}
	if b := p.Queue.LogicalBlockSize; p.DSize != 0 && bits.OnesCount32(b) == 1 {
		if b > largestBlock {
			return v.mismatchf("the peer's disk has logical blocks of %d bytes, at most %d are supported", b, largestBlock)
		}
		if v.peer.block < int64(b) || !v.state.Conn.Established() || v.uuids.Current != sm.JustCreated {
			v.peer.block = int64(b) // otherwise both were fresh when they met, and agreed on more
		}
	}
	if !v.hasDisk() {
		return e.disklessSize(v)
	}
	return e.agreeSize(v)
}

// offers is how much of the own disk may be used, in bytes: what the nodes have agreed on, even if the disk has
// grown since, or is a new one beside a device that is in use. To grow a device that holds data is not served yet, and what is new would not be equal on both disks.
func (v *volume) offers() int64 {
	switch room := v.layout.DataLimit; {
	case v.super.LastAgreedSize > 0 && v.holdsData():
		return min(room, v.super.LastAgreedSize)
	case v.sizeInUse():
		return min(room, v.size)
	default:
		return room
	}
}

// holdsData reports whether the own disk had data once, good or not.
func (v *volume) holdsData() bool { return everUsed(v.uuids.Current) }

// everUsed reports whether a current UUID is that of a disk that had data once.
func everUsed(current uint64) bool { return current&^sm.RoleBit != sm.JustCreated }

// sizeInUse reports whether the size of the device is known to somebody: its users, or a peer. What a peer says whose disk was just created, and that
// is Secondary, is no reason to refuse a disk with data.
func (v *volume) sizeInUse() bool {
	blank := v.peerKnown && v.peerUUIDs.Current&^sm.RoleBit == sm.JustCreated && v.state.Peer != sm.Primary
	return v.size != 0 && (v.state.Role == sm.Primary || v.state.Conn.Established() && !blank)
}

// fitsInUse refuses a disk that the device in use is too much for, and one with data of a device of another size: its metadata would get that of
// this one before anybody has compared the data. size is that of the device that the metadata tells of, block the disk's; both in bytes.
func (v *volume) fitsInUse(sb metadata.Superblock, size, block int64) error {
	inUse, room := v.sizeInUse(), v.layout.DataLimit
	switch {
	case inUse && room < v.size:
		return fmt.Errorf("the disk has room for %d bytes, and the device in use has %d: attach one that is large enough", room, v.size)
	case inUse && everUsed(sb.Current) && sb.LastAgreedSize != 0 && v.size != sb.LastAgreedSize && v.size != size:
		return fmt.Errorf("the disk has data of a device of %d bytes, and the device in use has %d: is it the right disk, and the right peer? (urbd create-md makes it a new one)",
			sb.LastAgreedSize, v.size)
	case v.state.Role == sm.Primary && block > v.exported:
		return fmt.Errorf("the disk has logical blocks of %d bytes, and the users of the device write in units of %d: make this node Secondary first",
			block, v.exported)
	}
	return nil
}

// agreeSize fits the size of the device to both disks. That of a device that holds data does not shrink, also where the disk is not
// good now: it may have users, and the peer that has the rest of the data would not find its size any more.
func (e *Engine) agreeSize(v *volume) error {
	user := v.cfg.Disk.Size
	if v.peer.user != 0 && (user == 0 || v.peer.user < user) {
		user = v.peer.user
	}
	size := metadata.EffectiveSize(v.offers(), v.peer.disk, v.super.LastAgreedSize, user)
	switch agreed := v.state.Conn.Established() && v.state.PeerDisk >= sm.Inconsistent && v.state.Disk != sm.Negotiating; {
	case size != v.size && agreed:
		return v.mismatchf("the peer has changed the size to %d bytes while connected, which is not served yet: connect again", size)
	case size < v.size && (v.holdsData() || v.state.Role == sm.Primary):
		return v.mismatchf("the peer's disk has room for %d bytes, %d are in use here: give the peer a disk that is large enough",
			v.peer.disk, v.size)
	}
	if err := v.wholeBlocks(size); err != nil {
		return err
	}
	if size != v.size {
		v.bm.Resize(size, true)
		e.resizeVolume(v, size)
		e.writeSuper(v, changedPages, nil)
	}
	if v.state.Conn.Established() && v.peer.current != v.size {
		e.sendSizes(v)
	}
	return nil
}

// wholeBlocks refuses a size that ends within a block of the device.
func (v *volume) wholeBlocks(size int64) error {
	if block := max(v.blockSize(), v.blockInUse()); size%block != 0 {
		return v.mismatchf("the %d bytes of the device are no multiple of %d, the logical block size of one of the disks: write size %ds; into the disk section of both",
			size, block, size/block*block/wire.SectorSize)
	}
	return nil
}

// disklessSize takes the size of the peer's device over, unless the device is in use: who uses it knows its size, and the generation
// that says whether the peer has their data comes after the size. It neither shrinks nor grows with a peer that may not have it. A peer that has
// no disk either decides nothing: what it is configured for, or has heard, is not what the disk here was used with.
func (e *Engine) disklessSize(v *volume) error {
	size := v.peer.current
	if size == 0 {
		size = v.peer.disk
		if v.peer.user != 0 {
			size = min(size, v.peer.user)
		}
	}
	switch inUse := v.size != 0 && v.state.Role == sm.Primary; {
	case v.peer.disk == 0 || size == v.size:
		return nil
	case inUse && size < v.size:
		return v.mismatchf("the peer's device of %d bytes is smaller than the %d in use here", size, v.size)
	case inUse:
		return nil
	}
	if err := v.wholeBlocks(size); err != nil {
		return err
	}
	e.resizeVolume(v, size)
	return nil
}

func (e *Engine) resizeVolume(v *volume, size int64) {
	if size != v.size {
		v.size = size
		e.emit(ResizeDevice{v.number, size})
	}
}

// peerSizes is what the peer said of its disk in P_SIZES, in bytes.
type peerSizes struct {
	disk, user, current int64
	block               int64 // logical block size; 0: never heard. It outlives the connection
	known               bool
}
