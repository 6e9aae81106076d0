package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"github.com/urbd/urbd/replication/engine"
)

// usersRecord is what a daemon has to know of the users of its devices who have outlived the one before it, by volume. It is a file
// beside the control socket: it has to live as long as they do, and a reboot ends both.
type usersRecord struct {
	path  string
	known map[int]engine.Users
}

// readUsers reads the record, which counts where a device was found in use. A file that cannot be understood is an error
// then: to forget what it says may serve somebody other data.
func readUsers(path string, inUse bool) (*usersRecord, error) {
	u := &usersRecord{path, map[int]engine.Users{}}
	text, err := ReadRecord(path)
	if errors.Is(err, fs.ErrNotExist) || !inUse {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &u.known)
	}
	if err == nil && u.known == nil {
		err = errors.New("it says nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which says what the users of the block devices worked on: %w; when nobody uses a device of the resource any more, remove the file", path, err)
	}
	return u, nil
}

// adopt keeps what is known of those volumes whose devices were found in use, and makes of it what a new daemon begins with.
func (u *usersRecord) adopt(inUse func(vol int) bool) error {
	maps.DeleteFunc(u.known, func(vol int, _ engine.Users) bool { return !inUse(vol) })
	return u.write()
}

// keep takes note of what the engine says. It is on the disk, as far as the directory is, when keep returns. After an error the record says
// nothing, if as much can be written: the daemon before this one knew other things.
func (u *usersRecord) keep(vol int, is engine.Users) error {
	if is == (engine.Users{}) {
		delete(u.known, vol)
	} else {
		u.known[vol] = is
	}
	return u.write()
}

func (u *usersRecord) write() error {
	if len(u.known) == 0 {
		if err := os.Remove(u.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(u.known)
	if err != nil {
		return err
	}
	if err := WriteRecord(u.path, text, 0o600); err != nil {
		return errors.Join(err, emptyRecord(u.path))
	}
	return nil
}
