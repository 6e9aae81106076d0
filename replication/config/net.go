package config

import "time"

// Protocol says when a write is complete: A = local disk and send buffer, B = received by the peer, C = on both disks.
type Protocol string

const (
	ProtocolA Protocol = "A"
	ProtocolB Protocol = "B"
	ProtocolC Protocol = "C"
)

// AfterSB0 is the split-brain policy if neither side was Primary.
type AfterSB0 string

// AfterSB1 is the split-brain policy if one side was Primary.
type AfterSB1 string

// AfterSB2 is the split-brain policy if both sides were Primary.
type AfterSB2 string

// RRConflict says what happens if a resync contradicts the roles.
type RRConflict string

// OnCongestion says what a protocol A sender does when the link fills up.
type OnCongestion string

// The value that urbd serves of each policy; the others are rows of the option table.
const (
	AfterSB0Disconnect   AfterSB0     = "disconnect"
	AfterSB1Disconnect   AfterSB1     = "disconnect"
	AfterSB2Disconnect   AfterSB2     = "disconnect"
	RRConflictDisconnect RRConflict   = "disconnect"
	OnCongestionBlock    OnCongestion = "block"
)

// A Secret does not print itself; string(s) is its text.
type Secret string

// String hides the text from logs and status output.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString is String: %#v must not tell more than %v.
func (s Secret) GoString() string { return s.String() }

// Net is the section net { } of a resource: its connection. Two Nets are equal (==) if they mean the same.
// The zero value is not usable; see DefaultNet. Source: docs/drbd-metadata.md 9.1.
type Net struct {
	Protocol           Protocol
	Timeout            time.Duration // 0.1..60 s: a request unanswered that long counts against KOCount
	ConnectInterval    time.Duration // 1..120 s between attempts to connect (connect-int)
	PingInterval       time.Duration // 1..120 s of silence before a ping (ping-int)
	PingTimeout        time.Duration // 0.1..30 s for its answer
	SocketCheckTimeout time.Duration // 0..30 s; 0 = PingTimeout
	KOCount            int           // 0..200 timeouts before the peer is given up; 0 = never
	MaxBuffers         int           // 32..131072 pages of 4096 bytes
	MaxEpochSize       int           // 1..20000 writes between two barriers
	UnplugWatermark    int           // 1..131072
	SndBuf             int64         // bytes, 0..10 MiB; 0 = automatic
	RcvBuf             int64         // bytes, 0..10 MiB; 0 = automatic
	TCPCork            bool

	CRAMHMACAlg  string // hash of the mutual authentication, "" = none
	SharedSecret Secret // at most 63 bytes

	AllowTwoPrimaries bool
	AlwaysASBP        bool
	AfterSB0Pri       AfterSB0
	AfterSB1Pri       AfterSB1
	AfterSB2Pri       AfterSB2
	RRConflict        RRConflict

	DataIntegrityAlg    string // "" = none
	VerifyAlg           string // "" = none; announced to the peer
	CSumsAlg            string // "" = none
	CSumsAfterCrashOnly bool
	UseRLE              bool // compress the exchanged bitmap

	OnCongestion      OnCongestion
	CongestionFill    int64 // bytes, 0..10 GiB; 0 = off
	CongestionExtents int   // 67..65534
}

// Authenticates reports whether the peer has to prove that it knows the secret.
func (n *Net) Authenticates() bool { return n.CRAMHMACAlg != "" }

// DefaultNet is the connection of a resource that says nothing about it.
func DefaultNet() Net { return defaults().Net }
