package config

import (
	"net/netip"
	"slices"
	"time"
)

// A Config is everything one start of urbd needs to know. Resources are in the order of the files.
type Config struct {
	Global    Global
	Resources []*Resource
	Warnings  []Warning
}

// Resource finds a resource by name, nil if there is none.
func (c *Config) Resource(name string) *Resource {
	for _, r := range c.Resources {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Global holds the options of the tools. Source: docs/drbd-metadata.md 9.1.
type Global struct {
	MinorCount            int           // 1..255
	DialogRefresh         time.Duration // 0..600 s
	DisableIPVerification bool
	UsageCount            string // yes, no, ask
	UdevAlwaysUseVNR      bool
	CmdTimeoutShort       time.Duration // 0..900 s
	CmdTimeoutMedium      time.Duration // 0..900 s
	CmdTimeoutLong        time.Duration // 0..900 s

	given given
}

// A Resource is one replicated set of volumes and the hosts that hold it, with every inherited option filled in.
type Resource struct {
	Name     string // letters, digits and . _ -, at most 128; safe as a file name
	Net      Net
	Options  ResourceOptions
	Startup  Startup
	Handlers map[string]string // name to shell command
	Hosts    []Host            // at least 2, at most 32
	IgnoreOn []string          // hosts that leave this resource alone
	Pos      Position

	given map[Section]given
}

// Exposed says, in a sentence, what it means and what to do when the peer does not have to prove who it is; it is empty where the
// peer has to, and where both nodes are on this machine.
func (r *Resource) Exposed() string {
	if r.Net.Authenticates() || !slices.ContainsFunc(r.Hosts, func(h Host) bool { return !h.Address.Addr().IsLoopback() }) {
		return ""
	}
	missing, remedy := "a shared-secret", `cram-hmac-alg sha256; shared-secret "what this prints: urbd secret";`
	if r.Net.SharedSecret != "" {
		missing, remedy = "a cram-hmac-alg, which has the peer prove that it knows the shared-secret,", "cram-hmac-alg sha256;"
	}
	return "without " + missing + " whoever can use the address of one node can read and overwrite the data of the other: write into net { } on both: " + remedy
}

// ResourceOptions is the section options { }.
type ResourceOptions struct {
	CPUMask            string // hexadecimal, at most 32 digits
	OnNoDataAccessible OnNoData
}

// Startup is the section startup { }: how long the waiting verbs wait.
type Startup struct {
	WFCTimeout         time.Duration // 0..300000 s, 0 = for ever
	DegrWFCTimeout     time.Duration // the same, if the peer was already away before
	OutdatedWFCTimeout time.Duration // the same, if the peer's data was outdated before
	WaitAfterSB        bool
	BecomePrimaryOn    []string
	StackedTimeouts    bool
}

// A Host is one side of a resource.
type Host struct {
	Names    []string // compared with uname -n; empty if Floating
	Floating bool     // identified by owning Address
	Address  netip.AddrPort
	Volumes  []Volume // by number, ascending; both hosts have the same numbers
	Pos      Position
}

// Name is the first name, or the address of a floating host.
func (h *Host) Name() string {
	if len(h.Names) > 0 {
		return h.Names[0]
	}
	return h.Address.String()
}

// Reach is where peer is found from this host. A link-local address is reached through this host's own interface: the one
// in peer's section is the name that it has over there.
func (h *Host) Reach(peer *Host) netip.AddrPort {
	at := peer.Address
	if !linkLocal(at.Addr()) {
		return at
	}
	return netip.AddrPortFrom(at.Addr().WithZone(h.Address.Addr().Zone()), at.Port())
}

// Volume finds a volume by number, nil if there is none.
func (h *Host) Volume(number int) *Volume {
	for i := range h.Volumes {
		if h.Volumes[i].Number == number {
			return &h.Volumes[i]
		}
	}
	return nil
}

// A Volume is one device of a resource as one host sees it.
type Volume struct {
	Number   int    // 0..65534
	Minor    int    // 0..1048575; the device appears as /dev/ublkb<Minor>
	Device   string // the name in the file; /dev/ublkb<Minor> if it gave only a minor
	Disk     string // backing store: absolute path of a block device or a regular file
	MetaDisk MetaDisk
	Options  Disk
	Pos      Position

	given given
}

// A MetaDisk says where a volume's metadata is. Source: docs/drbd-metadata.md 2.1.
type MetaDisk struct {
	Internal bool   // at the end of Volume.Disk; Device is empty and Index -1 then
	Device   string // external: absolute path
	Index    int    // external: slot of 128 MiB, 0..; -1 = flexible, the whole device
}

// A given remembers which options of a section somebody wrote, whatever their value, so that Dump shows them: one
// bit per row of the table.
type given uint64

func (g given) has(o *Option) bool { return g>>o.bit&1 != 0 }
