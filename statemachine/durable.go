package statemachine

// Durable is what the superblock's flags say of a volume's state; they are
// recalculated at every change while the own disk is Inconsistent or better, and
// stay as they are otherwise. Source: docs/drbd-metadata.md 1.3.
type Durable struct {
	Consistent   bool // CONSISTENT: own disk better than Inconsistent
	Primary      bool // PRIMARY_IND: writes go to this disk
	Connected    bool // CONNECTED_IND: a handshake is done
	WasUpToDate  bool // WAS_UP_TO_DATE: own disk better than Outdated
	PeerOutdated bool // PEER_OUT_DATED: peer's disk known as Inconsistent or Outdated
}

// Durable is what the flags in the superblock have to say in state s.
func (s State) Durable() Durable {
	return Durable{
		Consistent:   s.Disk > Inconsistent,
		Primary:      s.Role == Primary || s.Peer == Primary && s.PeerDisk < Inconsistent,
		Connected:    s.Conn > WFReportParams,
		WasUpToDate:  s.Disk > Outdated,
		PeerOutdated: s.PeerDisk >= Inconsistent && s.PeerDisk <= Outdated,
	}
}
