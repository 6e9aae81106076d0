package replication

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
)

// remedies are what to do before a disk is attached again.
var remedies = map[unix.Errno]string{
	unix.ENOSPC: "free space on the file system that it is a file of, or on the pool that it is a volume of",
	unix.EDQUOT: "raise the quota of the file system that it is a file of",
	unix.EROFS:  "its file system was made read-only, which the kernel does after an error: look at dmesg, and mount it writable",
	unix.EPERM:  "it was made read-only: blockdev --setrw makes it writable, where what is below it is",
	unix.EIO:    "the kernel could not do it: look at dmesg; a broken device is replaced, and the new one gets new metadata: urbd create-md",
	unix.ENXIO:  "the device has gone: bring it back, or replace it and make new metadata: urbd create-md",
	unix.ENODEV: "the device has gone: bring it back, or replace it and make new metadata: urbd create-md",
}

// say names the first I/O that fails on a disk. The disk is detached for it; what fails with it later is no news.
func (d *disks) say(op *diskOp, errno engine.Errno, remedy string) {
	a := d.stores[op.io.Vol]
	if a == nil || a.failed {
		return
	}
	a.failed = true
	path, what := a.backing.data.path, "data"
	if op.io.Meta {
		path, what = a.backing.meta.path, "metadata"
	}
	where := ""
	if op.io.Op != engine.DiskFlush {
		where = fmt.Sprintf(" of %d bytes at %d", op.io.Len, op.io.Off+op.done)
	}
	if remedy == "" {
		remedy = "look at dmesg"
	}
	d.l.tell(engine.Notice{Vol: op.io.Vol, Level: engine.Error, Text: fmt.Sprintf("%s: %v (%s)%s: %v; %s, then attach again", path, op.io.Op, what, where, errno, remedy)})
}
