package replication

import "time"

// ResourceStatus is a resource as `status --json` prints it: the keys, their
// order and their units are drbdsetup's (docs/drbd-cli.md 2.6; sizes in KiB).
// Keys that drbdsetup does not have stand last in their object.
type ResourceStatus struct {
	Name              string             `json:"name"`
	NodeID            int                `json:"node-id"`
	Role              string             `json:"role"`
	Suspended         bool               `json:"suspended"`
	SuspendedUser     bool               `json:"suspended-user"`
	SuspendedNoData   bool               `json:"suspended-no-data"`
	SuspendedFencing  bool               `json:"suspended-fencing"`
	SuspendedQuorum   bool               `json:"suspended-quorum"`
	ForceIOFailures   bool               `json:"force-io-failures"`
	WriteOrdering     string             `json:"write-ordering"`
	Devices           []DeviceStatus     `json:"devices"`
	Connections       []ConnectionStatus `json:"connections"`
	PID               int                `json:"pid"`                // of the daemon
	ConnectionSeconds float64            `json:"connection-seconds"` // since the connection state changed last
	Exposed           string             `json:"exposed"`            // what it means that the peer need not prove who it is; empty if it has to
	WaitSeconds       int64              `json:"wait-seconds"`       // how long wait-connect waits unless told otherwise; 0 for ever
}

// DeviceStatus is one volume, this node's side.
type DeviceStatus struct {
	Volume       int    `json:"volume"`
	Minor        int    `json:"minor"`
	DiskState    string `json:"disk-state"`
	Client       bool   `json:"client"`
	Open         bool   `json:"open"`
	Quorum       bool   `json:"quorum"`
	Size         int64  `json:"size"`
	Read         int64  `json:"read"`
	Written      int64  `json:"written"`
	ALWrites     int64  `json:"al-writes"`
	BMWrites     int64  `json:"bm-writes"`
	UpperPending int    `json:"upper-pending"`
	LowerPending int    `json:"lower-pending"`

	Path        string   `json:"path"`                 // block device; empty while there is none
	BackingDisk string   `json:"backing-disk"`         // as configured
	Blocked     string   `json:"blocked"`              // no, upper: requests wait for a state to pass
	DiskWaits   string   `json:"disk-waits,omitempty"` // what the backing disk has owed an answer to for long, in words
	Users       string   `json:"users,omitempty"`      // whom the last daemon left: waiting, or refused: see recover
	Generations []string `json:"generations"`          // current, bitmap, history, history: 16 hexadecimal digits each
}

// ConnectionStatus is the connection to the peer.
type ConnectionStatus struct {
	PeerNodeID      int                `json:"peer-node-id"`
	Name            string             `json:"name"`
	ConnectionState string             `json:"connection-state"` // 9's words: Connecting, Connected, ...
	Congested       bool               `json:"congested"`
	PeerRole        string             `json:"peer-role"`
	TLS             bool               `json:"tls"`
	APInFlight      int64              `json:"ap-in-flight"`
	RSInFlight      int64              `json:"rs-in-flight"`
	Paths           []PathStatus       `json:"paths"`
	PeerDevices     []PeerDeviceStatus `json:"peer_devices"`
	Refused         string             `json:"refused,omitempty"` // why this node has given the connection up

	Knocks []KnockStatus `json:"knocks"` // who connects and does not get in, the peer first; at most 8
}

// KnockStatus is what somebody does wrong who connects, or what the peer does until both nodes have agreed.
type KnockStatus struct {
	Address string    `json:"address"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"` // of the first time
	Last    time.Time `json:"last"`
	Count   int64     `json:"count"`
}

// PathStatus is the pair of addresses.
type PathStatus struct {
	ThisHost    AddressStatus `json:"this_host"`
	RemoteHost  AddressStatus `json:"remote_host"`
	Established bool          `json:"established"`
}

// AddressStatus is one end of a path.
type AddressStatus struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
	Family  string `json:"family"` // ipv4, ipv6
}

// PeerDeviceStatus is one volume, the peer's side and what lies between.
type PeerDeviceStatus struct {
	Volume           int     `json:"volume"`
	ReplicationState string  `json:"replication-state"` // 9's words: Off, Established, SyncSource, ...
	PeerDiskState    string  `json:"peer-disk-state"`
	PeerClient       bool    `json:"peer-client"`
	ResyncSuspended  string  `json:"resync-suspended"` // no, or a list of user, peer, dependency
	Received         int64   `json:"received"`
	Sent             int64   `json:"sent"`
	OutOfSync        int64   `json:"out-of-sync"`
	Pending          int     `json:"pending"`
	Unacked          int     `json:"unacked"`
	HasSync          bool    `json:"has-sync-details"`
	HasVerify        bool    `json:"has-online-verify-details"`
	PercentInSync    float64 `json:"percent-in-sync"`

	*SyncDetails

	CState          string   `json:"cstate"`           // 8.4's one word: WFConnection, Connected, SyncSource, ...
	PeerGenerations []string `json:"peer-generations"` // as the peer announced them last; null before
}

// SyncDetails is the progress of a resync; its keys are there only while one runs.
type SyncDetails struct {
	RSTotal      int64   `json:"rs-total"` // sectors of 512 bytes, as drbdsetup
	RSStartMS    int64   `json:"rs-dt-start-ms"`
	RSPausedMS   int64   `json:"rs-paused-ms"`
	RSDT0MS      int64   `json:"rs-dt0-ms"`
	RSDB0Sectors int64   `json:"rs-db0-sectors"`
	RSDT1MS      int64   `json:"rs-dt1-ms"`
	RSDB1Sectors int64   `json:"rs-db1-sectors"`
	RSFailed     int64   `json:"rs-failed"`
	RSSameCsum   int64   `json:"rs-same-csum"`
	Want         int64   `json:"want"`
	RateRecent   float64 `json:"db0/dt0 [MiB/s]"`
	RateLonger   float64 `json:"db1/dt1 [MiB/s]"`
	RateWhole    float64 `json:"db/dt [MiB/s]"`
	SecondsLeft  float64 `json:"estimated-seconds-to-finish"`
	PercentDone  float64 `json:"percent-resync-done"`
}
