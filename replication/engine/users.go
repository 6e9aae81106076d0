package engine

import (
	"fmt"
	"slices"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// Users are the users of a volume's device as far as their data is concerned. They outlive the daemon: the device waits for
// the next one, with the requests that were not answered. Meanwhile the peer may have been Primary, and the next daemon may
// find its own disk overwritten, or about to be. A file system that is served other data than it had is ruined, and
// what it writes then ruins that data; so they go on only with what they worked on.
//
//	UsersServed <-> UsersElsewhere     a daemon that serves them: its own disk has their data, or the peer's alone
//	     |                |
//	     v Adopted        v            the next daemon
//	 UsersFound -----> UsersLost
//	     |       attach   ^
//	     v                | overwritten, or the peer is Primary
//	 UsersWaiting --------+
//	     |
//	     v promoted
//	 UsersServed
//
// Unused leads back to UsersServed from everywhere: that is also the state of a device without users. What has to outlive a
// daemon that serves them is in the superblock, except that the data is elsewhere.
type Users struct {
	State       UsersState
	Generations [2]uint64 // UsersWaiting: what they worked on, and what this node has called it since
}

// UsersState is one of the states above.
type UsersState uint8

const (
	UsersServed UsersState = iota
	UsersElsewhere
	UsersFound
	UsersWaiting
	UsersLost
)

var usersWords = [...]string{"served", "elsewhere", "found", "waiting", "lost"}

func (s UsersState) String() string { return usersWords[s] }

// MarshalText is for the owner's record.
func (s UsersState) MarshalText() ([]byte, error) { return []byte(usersWords[s]), nil }

// UnmarshalText reads what MarshalText gives.
func (s *UsersState) UnmarshalText(text []byte) error {
	i := slices.Index(usersWords[:], string(text))
	if i < 0 {
		return fmt.Errorf("users of a device are not %q", text)
	}
	*s = UsersState(i)
	return nil
}

// Adopted is what a daemon knows of users that it finds, u being what the one before it has kept. Who worked
// on the peer's disk cannot be told whether it has been written by others since: its generation may be the same.
func (u Users) Adopted() Users {
	switch u.State {
	case UsersServed:
		u.State = UsersFound
	case UsersElsewhere:
		u.State = UsersLost
	}
	return u
}

// Wait reports whether users wait, who may be served when the disk that they worked on is good.
func (u Users) Wait() bool { return u.State == UsersFound || u.State == UsersWaiting }

// worked reports whether a generation is what the users worked on, by one of its names.
func (u Users) worked(current uint64) bool {
	for _, g := range u.Generations {
		if (g^current)&^sm.RoleBit == 0 {
			return true
		}
	}
	return false
}

// usersBecome has the owner keep what is new about the users.
func (e *Engine) usersBecome(v *volume, u Users) {
	if u != v.users {
		v.users = u
		e.emit(UsersWork{v.number, u})
	}
}

// usersMeet compares the users that were found with a disk that is being attached: with what its metadata says before this
// daemon writes any.
func (e *Engine) usersMeet(v *volume) {
	const good = metadata.PrimaryInd | metadata.Consistent | metadata.WasUpToDate
	current := v.super.Current
	switch {
	case v.users.State == UsersFound && v.super.Flags.Has(good):
		e.usersBecome(v, Users{UsersWaiting, [2]uint64{current, current}})
		e.notice(v, Info, fmt.Sprintf("the device is in use since before its daemon died: its users wait, they worked on data %016X", current))
	case v.users.State == UsersFound, v.users.State == UsersWaiting && !v.users.worked(current):
		e.usersLose(v)
	}
}

// usersKnow gives the data of waiting users another name: this node begins a generation, on the same data.
func (e *Engine) usersKnow(v *volume, before uint64) {
	if v.users.State == UsersWaiting {
		e.usersBecome(v, Users{UsersWaiting, [2]uint64{before, v.uuids.Current}})
	}
}

// usersLose takes note that the data that the users wait for is not here any more.
func (e *Engine) usersLose(v *volume) {
	if !v.users.Wait() {
		return
	}
	e.usersBecome(v, Users{State: UsersLost, Generations: v.users.Generations})
	e.notice(v, Error, "the device is in use since before its daemon died, and its users worked on other data than there is now: "+
		"they get errors, and what they wrote and was not confirmed is dropped; unmount it or end what uses it")
}

// usersFollow looks at the users after a change of the volume's state. A peer that is Primary writes to this disk, too, and
// nothing else may tell.
func (e *Engine) usersFollow(v *volume) {
	u, st := v.users, v.state
	switch {
	case u.Wait() && st.Role != sm.Primary && st.Peer == sm.Primary && st.Conn.Established():
		e.usersLose(v)
	case u.State == UsersServed && st.Role == sm.Primary && !st.ReadsLocally() && st.ReadsRemotely():
		e.usersBecome(v, Users{State: UsersElsewhere})
	case u.State == UsersElsewhere && (st.Role != sm.Primary || st.ReadsLocally()):
		e.usersBecome(v, Users{})
	}
}

// usersServed ends the waiting: this node is Primary, and its superblock says so.
func (e *Engine) usersServed(v *volume) {
	if v.users.Wait() {
		e.usersBecome(v, Users{})
		e.usersFollow(v)
	}
}

// unused is for a device that has no users any more.
func (e *Engine) unused(v *volume) {
	if v.users.Wait() || v.users.State == UsersLost {
		e.usersBecome(v, Users{})
	}
}

// orderUsers carries out an order about the users of a volume.
func (e *Engine) orderUsers(id uint64, vol int, do func(*volume)) {
	v := e.volume(vol)
	if v == nil {
		e.reply_(id, fmt.Errorf("there is no volume %d", vol))
		return
	}
	do(v)
	e.reply_(id, nil)
}

// waitingUsers is what the users that a daemon before this one has left behind allow this node.
func (v *volume) waitingUsers() sm.WaitingUsers {
	switch {
	case v.users.State == UsersWaiting && v.attached && !v.users.worked(v.uuids.Current):
		return sm.WaitForNone
	case v.users.Wait():
		return sm.WaitForDisk
	case v.users.State == UsersLost:
		return sm.WaitForNone
	}
	return sm.NobodyWaits
}
