package replication

import (
	"errors"
	"fmt"
	"io"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// CreateOptions are the choices of CreateMD.
type CreateOptions struct {
	Force bool // overwrite metadata or data that is found there
}

// A FoundError says that CreateMD found something worth asking about. With
// CreateOptions.Force it is overwritten.
type FoundError struct {
	Device string
	What   string // "metadata of DRBD 8.4", "an ext4 file system of 1073741824 bytes"
}

func (e *FoundError) Error() string {
	return fmt.Sprintf("%s holds %s; --force overwrites it", e.Device, e.What)
}

// Applied is what ApplyAL did.
type Applied struct {
	Needed  bool             // the log had to be read: the last owner died
	Verdict metadata.Verdict // what the log told
	Hot     int              // extents of 4 MiB that count as out of sync now
	Full    bool             // the log could not be trusted: every block counts as out of sync
}

var errUnderConstruction = errors.New("replication: offline metadata is not served by this build")

// CreateMD writes fresh metadata for v. The device must not be in use.
func CreateMD(v *config.Volume, opt CreateOptions) error { return errUnderConstruction }

// WipeMD destroys the metadata of v. The device must not be in use.
func WipeMD(v *config.Volume) error { return errUnderConstruction }

// DumpMD prints the metadata of v as `drbdmeta dump-md` does.
func DumpMD(w io.Writer, v *config.Volume) error { return errUnderConstruction }

// ApplyAL replays the activity log of v into its bitmap. The device must not be in use.
func ApplyAL(v *config.Volume) (Applied, error) { return Applied{}, errUnderConstruction }

// ReadSuperblock reads the superblock of v.
func ReadSuperblock(v *config.Volume) (metadata.Superblock, error) {
	return metadata.Superblock{}, errUnderConstruction
}
