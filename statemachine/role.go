package statemachine

import "strconv"

// Role says who may write. The values are those of the wire, 2 bits.
// Source: docs/drbd-wire.md 1.
type Role uint8

// The roles. A node never has RoleUnknown itself; it is what is known of a
// peer that is not there.
const (
	RoleUnknown Role = 0
	Primary     Role = 1
	Secondary   Role = 2
)

const roleMask = 3

var roleNames = [...]string{RoleUnknown: "Unknown", Primary: "Primary", Secondary: "Secondary"}

// String gives DRBD's spelling.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "Role(" + strconv.Itoa(int(r)) + ")"
}

// Known says whether r is one of the roles above.
func (r Role) Known() bool { return int(r) < len(roleNames) }
