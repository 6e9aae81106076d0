// Package statemachine decides what a volume is and what may become of it:
// roles, connection, own and peer disk; which events are granted and which are
// refused; what two nodes that meet make of their data generations; and which
// packets and local deeds a transition owes the rest of the program.
//
// It is pure: no I/O, no clock, no randomness. One [State] is one volume's view
// on one node, a small comparable value. An event goes in, the next state and
// the effects come out, in the order in which they have to happen:
//
//	              Rules (options, facts that State does not hold)
//	                │
//	Event ──► State.Step ──► State' , []Effect , error
//	            │   │   │
//	            │   │   └ Consequences  (old, new) ─► effects        docs/drbd-wire.md 9.6, 14.5
//	            │   └ Validate, Legal   soft and hard rules          docs/drbd-wire.md 14.2, 14.3, 17.1
//	            └ Sanitise              impossible combinations      docs/drbd-wire.md 8.2
//
// The parts the connection goes through, the way the owner draws them (the
// whole table is [Transitions]; [WriteDot] draws either):
//
//	StandAlone ─► Unconnected ─► WFConnection ─► WFReportParams ─► Connected
//	                   ▲                              │  │            ▲
//	                   │                  WFBitMapS ◄─┘  └─► WFBitMapT│
//	       communication trouble              │                │      │
//	                   ▲                      │           WFSyncUUID  │
//	                   │                      ▼                ▼      │
//	             (any of these)           SyncSource       SyncTarget ┘
//
// # The order of effects
//
// What is remembered comes first (generations, marks, the whole-bitmap mark),
// then [WriteMetadata], which makes all of it durable in one write; only then
// the reply and the packets that state it, then the work that it starts. So a
// packet never claims what a power cut could take back.
//
// # Where it differs from the kernel's driver
//
// Each of these keeps data that the driver could lose, or ends a wait that it would not; a driver as the peer
// takes all of it.
//
//   - Writes stay held during the whole of WFBitMapS ([State.HoldsWrites]).
//   - A resync or a verify is refused unless the disks that would serve as good ones are
//     UpToDate; the clamps of docs/drbd-wire.md 8.2 would declare them so. A peer's request for a
//     change that is not one of 14.1 is refused with NotSupported.
//   - An Outdated disk stays Outdated beside a peer without a disk, and says so. The target of a source whose own
//     disk fails is not taken for good.
//   - A peer's disk that becomes usable without a handshake costs the connection.
//   - A disk that is invalidated is Inconsistent at once, and its source starts a generation: until the
//     sync UUID has come both nodes would have the same one.
//   - A Primary that goes on alone, on a disk that it had lost, starts a generation.
//   - Unconfirmed writes are marked when the peer's disk is gone, not only when the peer is.
//   - A failed handshake of a late attach is told to the peer, which would go on waiting.
//   - Who skips the initial sync answers with P_STATE.
//   - A generation that was put off while I/O was frozen is dropped if the peer is back with its data.
//
// # Limits
//
// The package speaks of one volume. Rules that span volumes (one promotion for
// all, one disconnect for all) come in as facts in [Rules], and whoever owns the
// connection asks every volume before it commits any of them.
package statemachine
