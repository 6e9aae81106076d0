package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

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
	text, err := ReadRecord(r.dataBlockPath(vol))
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
		err = WriteRecord(r.dataBlockPath(ev.Vol), append(text, '\n'), 0o644)
	}
	if err != nil {
		r.log.Warn("the logical block size of the data cannot be remembered; alone, this node's device has that of its own disk", "device", r.label(ev.Vol), "size", ev.Size, "err", err)
	}
}
