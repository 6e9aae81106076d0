package statemachine

// HoldsWrites says that a new application write waits: while the bitmaps are
// exchanged or set, while I/O is suspended, and while the own disk is not
// settled. WFBitMapS holds throughout, which is stricter than the kernel's
// driver. Source: docs/drbd-wire.md 17.2.
func (s State) HoldsWrites() bool {
	return s.Suspended() || s.unsettled() || s.Conn.BitmapExchange() || s.Conn.StartingSync()
}

// HoldsReads says that a new application read waits. Reads go on where writes
// are held if the own disk is UpToDate; otherwise a block that the peer is about
// to mark could be read stale.
func (s State) HoldsReads() bool {
	if s.Suspended() || s.unsettled() {
		return true
	}
	return (s.Conn.BitmapExchange() || s.Conn.StartingSync()) && s.Disk != UpToDate
}

// unsettled says that the own disk is there and what it is worth is not known yet.
func (s State) unsettled() bool { return s.Disk == Attaching || s.Disk == Negotiating }

// ReadsLocally says that every block may be read from the own disk.
func (s State) ReadsLocally() bool { return s.Disk == UpToDate }

// ReadsCleanLocally says that a range may be read from the own disk if none of
// its bits is set. Source: docs/drbd-metadata.md 8.7.
func (s State) ReadsCleanLocally() bool {
	return s.Disk == UpToDate || s.Disk == Inconsistent && s.Conn.Syncing()
}

// ReadsRemotely says that the peer can serve a read.
func (s State) ReadsRemotely() bool { return s.Conn.Established() && s.PeerDisk == UpToDate }

// RestsOn says that a change to next makes the own disk the only good one that there is: the peer's is called old or let go while a
// Primary goes on, or is overwritten.
func (s State) RestsOn(next State) bool {
	if !s.Redundant() || next.PeerDisk == UpToDate || next.PeerDisk == DUnknown {
		return false
	}
	return next.Role == Primary || next.Peer == Primary || next.Conn == StartingSyncS
}

// WritesLocally says that a write goes to the own disk.
func (s State) WritesLocally() bool { return s.Disk.Usable() }

// ReplicatesData says that a write goes to the peer with its data.
// Source: docs/drbd-wire.md 11.11.
func (s State) ReplicatesData() bool {
	if !s.Conn.Established() {
		return false
	}
	return s.PeerDisk == UpToDate || s.PeerDisk.Usable() && s.Conn >= WFBitMapT && s.Conn < Ahead
}

// SendsOutOfSync says that the peer is told of a write's range only, by
// P_OUT_OF_SYNC. Source: docs/drbd-wire.md 11.11.
func (s State) SendsOutOfSync() bool { return s.Conn == Ahead || s.Conn == WFBitMapS }

// MaySetInSync says that a replicated write carries DP_MAY_SET_IN_SYNC: 16 to 21,
// which includes the two verify states. Source: docs/drbd-wire.md 1, 11.2.
func (s State) MaySetInSync() bool { return s.Conn >= SyncSource && s.Conn <= PausedSyncT }

// HasData says that UpToDate data is within reach: on the own disk or the peer's.
func (s State) HasData() bool { return s.ReadsLocally() || s.ReadsRemotely() }

// Redundant says that both disks are UpToDate. From here on nothing is left of
// an earlier crash: the crashed-primary mark may be dropped.
func (s State) Redundant() bool { return s.Disk == UpToDate && s.PeerDisk == UpToDate }

// AwaitsPeer says that only the peer can end this state, and that writes may be held until
// it does: if nothing comes within the network timeout, that is communication trouble.
func (s State) AwaitsPeer() bool {
	return s.Conn == WFReportParams || s.Conn.BitmapExchange() || s.Conn.Established() && s.Disk == Negotiating
}
