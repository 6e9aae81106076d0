package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
)

// DefaultStateDir is where a daemon keeps what has to outlive the machine's next start and has no field in the metadata.
const DefaultStateDir = "/var/lib/urbd"

// dataBlock is what is remembered of a volume's disk: the logical block size that its data is written in.
type dataBlock struct {
	DeviceUUID string `json:"device-uuid"` // of the metadata, 16 hexadecimal digits: another disk is not meant
	Size       int64  `json:"logical-block-size"`
}

func (r *Resource) dataBlockPath(vol int) string {
	return filepath.Join(r.cfg.StateDir, fmt.Sprintf("%s.%d.block", r.name(), vol))
}

// dataBlock reads what was remembered of a volume. That nothing was is no error; what cannot be read counts for nothing, because
// the device then is what its disk is, which is never more than what was remembered.
func (r *Resource) dataBlock(vol int) (uuid uint64, size int64) {
	var b dataBlock
	text, err := os.ReadFile(r.dataBlockPath(vol))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0
	}
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err == nil {
		_, err = fmt.Sscanf(b.DeviceUUID, "%016X", &uuid)
	}
	if err == nil && (b.Size < 512 || b.Size > maxBlock || b.Size&(b.Size-1) != 0) {
		err = fmt.Errorf("%d is not a logical block size", b.Size)
	}
	if err != nil {
		r.log.Warn("what was remembered of the logical block size cannot be read", "device", r.label(vol), "file", r.dataBlockPath(vol), "err", err)
		return 0, 0
	}
	return uuid, b.Size
}

// rememberBlock keeps the logical block size of a volume's data. It is on the disk when this returns.
func (r *Resource) rememberBlock(ev engine.RememberBlockSize) {
	text, err := json.Marshal(dataBlock{fmt.Sprintf("%016X", ev.DeviceUUID), ev.Size})
	if err == nil {
		err = writeDurably(r.dataBlockPath(ev.Vol), append(text, '\n'))
	}
	if err != nil {
		r.log.Warn("the logical block size of the data cannot be remembered; alone, this node's device has that of its own disk", "device", r.label(ev.Vol), "size", ev.Size, "err", err)
	}
}

// writeDurably replaces a file as a whole: after a crash it has the old content or the new one.
func writeDurably(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fsync(d), unix.Close(d))
}
