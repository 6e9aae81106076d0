package replication

import "github.com/urbd/urbd/replication/engine"

// What blocks on a disk, blocks a thread of the ring (uring.Config.Workers): flushes and zeroing always, reads and writes while the
// disk's queue is full. All disks of a resource share the threads. So that one which hangs leaves the others theirs, what each
// disk may have on the ring is bounded, in lanes, and there are as many threads as all of them together can block.
const (
	quick laneOf = iota // reads and writes
	slow                // flushes and zeroing
	lanes
)

type laneOf uint8

// A laneWidths is how many operations are on the ring at once; the others wait for one of them to end.
type laneWidths [lanes]int

// A disk works at one flush at a time, and a second one is ready when it ends. Metadata, which may be on a disk that does not
// hang, has lanes of its own: it says that the other one was given up.
var (
	dataWidth = laneWidths{quick: 256, slow: 4}
	metaWidth = laneWidths{quick: 16, slow: 4}
)

// workers are the threads that disks of so many volumes can block.
func workers(volumes int) int {
	return volumes * (dataWidth[quick] + dataWidth[slow] + metaWidth[quick] + metaWidth[slow])
}

// A lane is what a disk has on the ring of one sort, and what waits for that, the oldest first, linked through the slab.
type lane struct {
	width       int
	busy        int
	waiting     int
	first, last uint32
}

func newLanes(widths laneWidths) (ls [lanes]lane) {
	for i := range ls {
		ls[i].width = widths[i]
	}
	return ls
}

func (f *ioFile) lane(op engine.DiskOp) *lane {
	if op == engine.DiskFlush || op == engine.DiskZero {
		return &f.lanes[slow]
	}
	return &f.lanes[quick]
}

// enter takes a place on the ring. It reports whether there was one.
func (l *lane) enter() bool {
	if l.busy == l.width {
		return false
	}
	l.busy++
	return true
}

// wait puts an operation behind those that wait.
func (l *lane) wait(slab []diskOp, i uint32) {
	if l.waiting == 0 {
		l.first = i
	} else {
		slab[l.last].next = i
	}
	l.last = i
	l.waiting++
}

// leave gives a place back, and to the next one, if one waits.
func (l *lane) leave(slab []diskOp) (next uint32, ok bool) {
	if l.waiting == 0 {
		l.busy--
		return 0, false
	}
	return l.pop(slab), true
}

func (l *lane) pop(slab []diskOp) uint32 {
	i := l.first
	l.first = slab[i].next
	l.waiting--
	return i
}

// dismiss ends what waits for a disk, because that was given up.
func (d *disks) dismiss(f *ioFile) {
	for n := range f.lanes {
		for l := &f.lanes[n]; l.waiting > 0; {
			i := l.pop(d.slab)
			d.report(uint64(i), &d.slab[i], engine.EIO)
		}
	}
}
