package engine

import sm "github.com/urbd/urbd/statemachine"

// Logical block sizes that a disk may have, in bytes: metadata is written in pages.
const (
	smallestBlock = 512
	largestBlock  = PageSize
)

// The logical block size of a device is fixed when data begins to be on it: file systems are made for it. It is the larger one of the disks that
// are there then, which have no data yet, and stays what it was: a disk with larger blocks cannot write what the users of the data
// write. v08 has no field for it, so the owner remembers it, for the device UUID of the disk. Of data that
// was there before, it is learned when a peer is met that has the same data.

// blockSize is the logical block size that the device needs, in bytes.
func (v *volume) blockSize() int64 {
	size := max(smallestBlock, v.block, v.dataBlock)
	if v.dataBlock == 0 {
		size = max(size, v.peer.block)
	}
	return size
}

// blockInUse is the logical block size that the users of the device write in, in bytes; 0: there are none. Their data may be the
// peer's, and the own disk just created.
func (v *volume) blockInUse() int64 {
	if v.state.Role != sm.Primary {
		return 0
	}
	return v.exported
}

// learnBlock fixes the logical block size of the data of a disk.
func (e *Engine) learnBlock(v *volume, size int64) {
	if v.dataBlock != size {
		v.dataBlock = size
		e.emit(RememberBlockSize{v.number, v.super.DeviceUUID, size})
	}
}

// dataBegins is called before a superblock is written: on a disk that was just created the first generation of data begins with it.
func (e *Engine) dataBegins(v *volume) {
	if v.attached && v.dataBlock == 0 && v.super.Current == sm.JustCreated && v.uuids.Current != sm.JustCreated {
		e.learnBlock(v, v.blockSize())
	}
}

// rememberedBlock is what the owner remembers of the disk that is being attached; 0: nothing.
func (a *attaching) rememberedBlock(uuid, current uint64) int64 {
	if a.cmd.DataBlockOf != uuid || current == sm.JustCreated {
		return 0
	}
	return a.cmd.DataBlock
}

// fitsData refuses a disk that has larger blocks than what was written to it, on another one: it was moved.
func fitsData(block, data int64) error {
	if data == 0 || block <= data {
		return nil
	}
	return mismatchf("the disk has logical blocks of %d bytes, and the data on it was written in units of %d: move it back to a disk with such blocks, "+
		"or make its metadata anew and have the peer's data copied", block, data)
}

// fitsPeer refuses a disk that is attached while connected, and would be overwritten with data that it cannot write.
func (v *volume) fitsPeer(block int64) error {
	peer := v.peerUUIDs.Current
	if !v.state.Conn.Established() || v.uuids.Current != sm.JustCreated || peer == 0 || peer == sm.JustCreated || v.peer.disk == 0 || v.peer.block == 0 || block <= v.peer.block {
		return nil
	}
	return joinError(v, block, v.peer.block)
}

// agreeBlocks decides on the logical block size when a handshake was decided. Both nodes come to an answer each for itself: they
// see the same sizes, and which data goes where. So the peer's is known afterwards, too, although it does not say it again.
func (e *Engine) agreeBlocks(v *volume, d sm.Decision, peer sm.Role) error {
	own, theirs := max(smallestBlock, v.block, v.dataBlock), v.peer.block
	used, inUse := v.usersBlock(d)
	switch {
	case theirs == 0:
		return nil // it has no disk, or does not say
	case v.uuids.Current == sm.JustCreated && v.peerUUIDs.Current == sm.JustCreated:
		v.peer.block = max(own, theirs) // there is no data yet; whoever begins, begins with this: see dataBegins
		return nil
	case d.FullSync && d.Result < 0: // what is here does not count
		if v.block > theirs {
			return joinError(v, v.block, theirs)
		}
		own = theirs
	case theirs <= own:
		if peer == sm.Primary && theirs < v.block {
			return inUseError(v, "this", own, theirs)
		}
	case d.FullSync && d.Result > 0:
		v.peer.block = 0
		return v.mismatchf("the peer's disk has logical blocks of %d bytes, and the data here was written in units of %d, which it cannot write: "+
			"give the peer a disk with blocks of %[2]d bytes", theirs, own)
	case v.dataBlock != 0:
		v.peer.block = 0
		return v.mismatchf("the peer's disk has logical blocks of %d bytes, and the data on both was written in units of %d: "+
			"move the peer's data back to a disk with such blocks", theirs, own)
	case inUse && used < theirs:
		v.peer.block = 0
		return inUseError(v, "the peer's", theirs, used)
	default:
		own = theirs
	}
	e.learnBlock(v, own)
	v.peer.block = own
	return nil
}

// usersBlock is the logical block size that the users of the device know, in bytes, and whether there are any. Those who
// wait for their daemon know what the device had without a peer; if the peer's data comes here, they will not be served.
func (v *volume) usersBlock(d sm.Decision) (size int64, inUse bool) {
	if v.state.Role == sm.Primary {
		return v.exported, true
	}
	return max(smallestBlock, v.block, v.dataBlock), v.users.Wait() && d.Result >= 0
}

// joinError is for a disk here that would be overwritten with data that it cannot write.
func joinError(v *volume, block, data int64) error {
	return v.mismatchf("this disk has logical blocks of %d bytes, and the peer's data was written in units of %d, which it cannot write: "+
		"use a disk with blocks of %[2]d bytes", block, data)
}

// inUseError is for users of a device who do not know yet that it has larger blocks.
func inUseError(v *volume, whose string, block, used int64) error {
	return v.mismatchf("%s disk has logical blocks of %d bytes, and the users of the device write in units of %d: end what uses it, make the Primary Secondary, connect, "+
		"and make it Primary again, which gives its device the larger blocks", whose, block, used)
}

// aligned refuses a request of the peer that the own disk has too large blocks for. The peer's users
// began to write before it knew.
func (v *volume) aligned(off, n int64) error {
	if (off|n)&(v.block-1) == 0 {
		return nil
	}
	return v.mismatchf("the peer wrote or read %d bytes at %d, and this disk has logical blocks of %d: make the peer Secondary, connect, "+
		"and make it Primary again, which gives its device the larger blocks", n, off, v.block)
}
