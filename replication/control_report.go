package replication

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// describe turns the engine's snapshot into drbdsetup's words.
func (r *Resource) describe(st engine.Status, now engine.Instant, pid int, devices []*volumeDevice) ResourceStatus {
	out := ResourceStatus{
		Name:              r.name(),
		NodeID:            0, // 8.4 has no node ids; 9's tools show this one
		Role:              st.Role.String(),
		WriteOrdering:     "flush",
		Devices:           []DeviceStatus{},
		PID:               pid,
		ConnectionSeconds: (now - st.Since).Seconds(),
		Exposed:           r.cfg.Resource.Exposed(),
	}
	conn := ConnectionStatus{
		PeerNodeID:      1,
		Name:            r.cfg.Peer.Name(),
		ConnectionState: connectionWord(st.Conn),
		PeerRole:        st.PeerRole.String(),
		APInFlight:      st.APInFlight >> 10,
		RSInFlight:      st.RSInFlight >> 10,
		Paths: []PathStatus{{
			ThisHost:    address(r.cfg.Local.Address),
			RemoteHost:  address(r.cfg.Local.Reach(r.cfg.Peer)),
			Established: st.Conn == statemachine.Connected,
		}},
		PeerDevices: []PeerDeviceStatus{},
		Refused:     st.Refused,
		Knocks:      []KnockStatus{},
	}
	for _, k := range r.connector.knocks.list() {
		conn.Knocks = append(conn.Knocks, KnockStatus{k.From.String(), k.Reason, k.Since.Truncate(time.Second), k.Last.Truncate(time.Second), k.Count})
	}
	for i := range st.Volumes {
		v := &st.Volumes[i]
		out.SuspendedUser = out.SuspendedUser || v.State.Susp
		out.SuspendedNoData = out.SuspendedNoData || v.State.SuspNoData
		out.SuspendedFencing = out.SuspendedFencing || v.State.SuspFencing
		out.Devices = append(out.Devices, r.describeDevice(v, devices))
		conn.PeerDevices = append(conn.PeerDevices, describePeer(v))
	}
	out.Suspended = out.SuspendedUser || out.SuspendedNoData || out.SuspendedFencing
	out.Connections = []ConnectionStatus{conn}
	outdated := slices.ContainsFunc(st.Volumes, func(v engine.VolumeStatus) bool { return v.State.PeerDisk == statemachine.Outdated })
	out.WaitSeconds = int64(waitLimit(r.cfg.Resource.Startup, lastUseOf(st).degraded(), outdated) / time.Second)
	return out
}

// waitLimit is how long to wait for the peer; 0 is for ever. Who knows more about the peer waits shorter, never longer.
// Source: docs/drbd-cli.md 2.11.
func waitLimit(s config.Startup, degraded, outdated bool) time.Duration {
	limit := s.WFCTimeout
	most := func(d time.Duration) {
		if d != 0 && (limit == 0 || d < limit) {
			limit = d
		}
	}
	if degraded || outdated {
		most(s.DegrWFCTimeout)
	}
	if outdated {
		most(s.OutdatedWFCTimeout)
	}
	return limit
}

func (s *ResourceStatus) syncing() bool {
	for _, c := range s.Connections {
		for _, p := range c.PeerDevices {
			if p.HasSync {
				return true
			}
		}
	}
	return false
}

func (r *Resource) describeDevice(v *engine.VolumeStatus, devices []*volumeDevice) DeviceStatus {
	d := DeviceStatus{
		Volume:       v.Number,
		DiskState:    v.State.Disk.String(),
		Quorum:       true,
		Size:         v.Size >> 10,
		Read:         v.ReadBytes >> 10,
		Written:      v.WrittenBytes >> 10,
		ALWrites:     v.ALWrites,
		BMWrites:     v.BMWrites,
		UpperPending: v.UpperPending,
		LowerPending: v.LowerPending,
		Blocked:      "no",
		DiskWaits:    r.waitsFor(v),
		Generations:  generations(v.UUIDs),
	}
	if v.HeldWrites > 0 {
		d.Blocked = "upper"
	}
	if c := r.cfg.Local.Volume(v.Number); c != nil {
		d.Minor, d.BackingDisk = c.Minor, c.Disk
	}
	for _, dev := range devices {
		if dev.vol.Number == v.Number {
			d.Path = dev.path()
			d.Open = d.Path != "" && v.State.Role == statemachine.Primary
			d.Users = dev.leftWord()
		}
	}
	return d
}

func describePeer(v *engine.VolumeStatus) PeerDeviceStatus {
	p := PeerDeviceStatus{
		Volume:           v.Number,
		ReplicationState: replicationWord(v.State.Conn),
		PeerDiskState:    v.State.PeerDisk.String(),
		ResyncSuspended:  paused(v.State),
		Received:         v.RecvBytes >> 10,
		Sent:             v.SentBytes >> 10,
		OutOfSync:        (v.OutOfSync + 1023) >> 10,
		Pending:          v.Pending,
		Unacked:          v.Unacked,
		PercentInSync:    100,
		CState:           v.State.Conn.String(),
	}
	if v.Size > 0 {
		p.PercentInSync = percent(v.Size-v.OutOfSync, v.Size)
	}
	if v.PeerUUIDs != (statemachine.UUIDs{}) {
		p.PeerGenerations = generations(v.PeerUUIDs)
	}
	if s := v.Sync; s != nil {
		p.HasSync, p.SyncDetails = true, describeSync(s)
	}
	return p
}

// describeSync fills what drbdsetup computes from the driver's marks. Here both marks are the engine's recent rate.
func describeSync(s *engine.SyncStatus) *SyncDetails {
	const window = 3 * time.Second // of the engine's rate, nominally
	done := s.Total - s.Left
	d := &SyncDetails{
		RSTotal:      s.Total >> 9,
		RSStartMS:    s.Elapsed.Milliseconds(),
		RSDT0MS:      window.Milliseconds(),
		RSDB0Sectors: int64(float64(s.Rate)*window.Seconds()) >> 9,
		RSDT1MS:      window.Milliseconds(),
		RSDB1Sectors: int64(float64(s.Rate)*window.Seconds()) >> 9,
		RSFailed:     s.Failed >> 9,
		RateRecent:   mebibytes(float64(s.Rate)),
		RateLonger:   mebibytes(float64(s.Rate)),
		PercentDone:  percent(done, s.Total),
	}
	if sec := s.Elapsed.Seconds(); sec > 0 {
		d.RateWhole = mebibytes(float64(done) / sec)
	}
	if s.Rate > 0 {
		d.SecondsLeft = float64(s.Left) / float64(s.Rate)
	}
	return d
}

func mebibytes(perSecond float64) float64 { return float64(int64(perSecond/(1<<20)*100)) / 100 }

// percent is rounded down to a hundredth: 100 means all of it.
func percent(part, all int64) float64 {
	if all <= 0 {
		return 100
	}
	return float64(int64(float64(part)/float64(all)*10000)) / 100
}

// connectionWord is 9's name of a connection state (docs/drbd-metadata.md 10.4).
func connectionWord(c statemachine.Conn) string {
	switch {
	case c == statemachine.WFConnection:
		return "Connecting"
	case c >= statemachine.WFReportParams:
		return "Connected"
	}
	return c.String()
}

// replicationWord is 9's name of what a volume does on the connection.
func replicationWord(c statemachine.Conn) string {
	switch {
	case c < statemachine.Connected:
		return "Off"
	case c == statemachine.Connected:
		return "Established"
	}
	return c.String()
}

func paused(s statemachine.State) string {
	var why []string
	for _, w := range []struct {
		on   bool
		name string
	}{{s.UserISP, "user"}, {s.PeerISP, "peer"}, {s.AfterISP, "dependency"}} {
		if w.on {
			why = append(why, w.name)
		}
	}
	if len(why) == 0 {
		return "no"
	}
	return strings.Join(why, ",")
}

func generations(u statemachine.UUIDs) []string {
	out := make([]string, 0, 4)
	for _, g := range []uint64{u.Current, u.Bitmap, u.History[0], u.History[1]} {
		out = append(out, fmt.Sprintf("%016X", g))
	}
	return out
}

func address(a netip.AddrPort) AddressStatus {
	family := "ipv4"
	if a.Addr().Is6() && !a.Addr().Is4In6() {
		family = "ipv6"
	}
	return AddressStatus{a.Addr().String(), int(a.Port()), family}
}
