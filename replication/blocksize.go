package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// DefaultStateDir is where a daemon keeps what has to outlive the machine's next start and has no field in the metadata.
const DefaultStateDir = "/var/lib/urbd"

// stateLimit is how long the state directory is waited for.
const stateLimit = 5 * time.Second

// A dataBlock is what is remembered of a volume's disk: the logical block size that its data is written in. The zero value: nothing.
type dataBlock struct {
	uuid uint64 // of the metadata's device: another disk is not meant
	size int64  // bytes
}

// dataBlockRecord is a dataBlock in its file.
type dataBlockRecord struct {
	DeviceUUID string `json:"device-uuid"` // 16 hexadecimal digits
	Size       int64  `json:"logical-block-size"`
}

// dataBlocks remembers the data blocks of a resource in the state directory. That may be on a disk that hangs, which is no reason for the
// resource to stand still: one goroutine writes, the latest of each volume, and who reads has a bound.
//
// Nothing waits for a record to be on the disk. After a crash that came first, the device alone has the blocks of its own disk, which
// are never larger than those its users knew, and the size is learned again from the peer (engine, blocks.go); until then, data that
// is moved to a disk with larger blocks is not found out.
type dataBlocks struct {
	dir, resource string
	log           *slog.Logger
	read          func(path string) ([]byte, error)       // ReadRecord, but in tests
	write         func(path string, content []byte) error // WriteRecord, but in tests

	mu        sync.Mutex        // leaf
	latest    map[int]dataBlock // by volume: what was to be remembered since the daemon began
	unwritten map[int]dataBlock // what of it is not known to be on the disk
	writing   chan struct{}     // closed when there is nothing to write any more; nil: nobody writes
	readings  map[int]*blockReading
}

// A blockReading is a read of a record. It may outlive who waits for it, and there is no second one beside it.
type blockReading struct {
	done chan struct{} // closed when block and err are there
	dataBlock
	err error
}

func newDataBlocks(dir, resource string, log *slog.Logger) *dataBlocks {
	return &dataBlocks{
		dir: dir, resource: resource, log: log,
		read:   ReadRecord,
		write:  func(path string, content []byte) error { return WriteRecord(path, content, 0o644) },
		latest: map[int]dataBlock{}, unwritten: map[int]dataBlock{}, readings: map[int]*blockReading{},
	}
}

func (d *dataBlocks) path(vol int) string {
	return filepath.Join(d.dir, fmt.Sprintf("%s.%d.block", d.resource, vol))
}

func (d *dataBlocks) label(vol int) string { return fmt.Sprintf("%s/%d", d.resource, vol) }

// remember has the logical block size of a volume's data written. It does not wait.
func (d *dataBlocks) remember(ev engine.RememberBlockSize) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := dataBlock{ev.DeviceUUID, ev.Size}
	d.latest[ev.Vol], d.unwritten[ev.Vol] = b, b
	if d.writing == nil {
		d.writing = make(chan struct{})
		go d.writeAll()
	}
}

// writeAll is the one writer. It ends when nothing is left.
func (d *dataBlocks) writeAll() {
	for vol, b, ok := d.next(); ok; vol, b, ok = d.next() {
		if err := d.save(vol, b); err != nil {
			d.lost(vol, b, err)
		}
		d.mu.Lock()
		if d.unwritten[vol] == b {
			delete(d.unwritten, vol)
		}
		d.mu.Unlock()
	}
}

func (d *dataBlocks) next() (vol int, b dataBlock, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for vol, b := range d.unwritten {
		return vol, b, true
	}
	close(d.writing)
	d.writing = nil
	return 0, dataBlock{}, false
}

func (d *dataBlocks) save(vol int, b dataBlock) error {
	text, err := json.Marshal(dataBlockRecord{fmt.Sprintf("%016X", b.uuid), b.size})
	if err != nil {
		return err
	}
	return d.write(d.path(vol), append(text, '\n'))
}

func (d *dataBlocks) lost(vol int, b dataBlock, err error) {
	d.log.Warn("the logical block size of the data cannot be remembered; alone, this node's device has that of its own disk",
		"device", d.label(vol), "size", b.size, "err", err)
}

// end waits within the limit until everything is written, and says what is not. A write that hangs still is left to the kernel.
func (d *dataBlocks) end() {
	d.mu.Lock()
	writing := d.writing
	d.mu.Unlock()
	if writing == nil {
		return
	}
	select {
	case <-writing:
		return
	case <-time.After(stateLimit):
	}
	d.mu.Lock()
	left := maps.Clone(d.unwritten)
	d.mu.Unlock()
	for _, vol := range slices.Sorted(maps.Keys(left)) {
		d.lost(vol, left[vol], d.silent())
	}
}

func (d *dataBlocks) silent() error {
	return fmt.Errorf("%s has not answered for %v; see what its file system waits for", d.dir, stateLimit)
}

// of is what is remembered of a volume; that may be nothing. What cannot be read, or not in time, is said and counts for nothing, because
// the device then is what its disk is, which is never more than what was remembered.
func (d *dataBlocks) of(ctx context.Context, vol int) dataBlock {
	b, err := d.find(ctx, vol)
	if err != nil {
		d.log.Warn("what was remembered of the logical block size cannot be read", "device", d.label(vol), "file", d.path(vol), "err", err)
		return dataBlock{}
	}
	return b
}

// find waits for the file system, as long as ctx lasts and the limit.
func (d *dataBlocks) find(ctx context.Context, vol int) (dataBlock, error) {
	d.mu.Lock()
	if b, ok := d.latest[vol]; ok {
		d.mu.Unlock()
		return b, nil
	}
	r := d.readings[vol]
	if r == nil {
		r = &blockReading{done: make(chan struct{})}
		d.readings[vol] = r
		go d.load(vol, r)
	}
	d.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, stateLimit, d.silent())
	defer cancel()
	select {
	case <-r.done:
		return r.dataBlock, r.err
	case <-ctx.Done():
		return dataBlock{}, context.Cause(ctx)
	}
}

func (d *dataBlocks) load(vol int, r *blockReading) {
	text, err := d.read(d.path(vol))
	if err == nil {
		r.dataBlock, r.err = decodeBlock(text)
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.err = err
	}
	d.mu.Lock()
	delete(d.readings, vol)
	d.mu.Unlock()
	close(r.done)
}

func decodeBlock(text []byte) (b dataBlock, err error) {
	var rec dataBlockRecord
	if err = json.Unmarshal(text, &rec); err == nil {
		_, err = fmt.Sscanf(rec.DeviceUUID, "%016X", &b.uuid)
	}
	if b.size = rec.Size; err == nil && (b.size < 512 || b.size > maxBlock || b.size&(b.size-1) != 0) {
		err = fmt.Errorf("%d is not a logical block size", b.size)
	}
	if err != nil {
		return dataBlock{}, err
	}
	return b, nil
}
