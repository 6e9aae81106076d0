package engine

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// verdict is what becomes of a packet.
type verdict uint8

const (
	end    verdict = iota // the peer breaks the protocol: the connection ends
	take                  // it is acted on
	refuse                // it is answered in the negative, and nothing else happens
	again                 // it gets the answer of the same request, which is open
	drop                  // nothing happens: it crossed with a change here
)

// outstanding is how a packet stands to what is open between the nodes.
type outstanding uint8

const (
	nothing   outstanding = 1 << iota // it answers nothing, and nothing of its kind is open
	asked                             // it answers what this node has asked for; or it is what a request of this node leads to
	abandoned                         // it may answer what this node has asked for and does not want any more
	openSame                          // it asks for the same as the open request
	openOther                         // it asks for something else

	whatever = nothing | asked | abandoned | openSame | openOther
)

// standing is everything that the admission of a packet depends on.
type standing struct {
	conn sm.Conn // of its volume; of the furthest one for a packet of the connection; greetings before P_PROTOCOL
	role sm.Role // of this node
	peer sm.Role
	disk bool // this node's disk can do what the packet asks for
	what outstanding
}

// greetings stands for a connection on which P_PROTOCOL has not come yet.
const greetings = sm.WFConnection

// rule is one row of the table.
type rule struct {
	conns   conns
	roles   pairing
	disk    diskNeed
	what    outstanding
	verdict verdict
}

// conns is a set of connection states.
type conns uint32

func in(all ...sm.Conn) (s conns) {
	for _, c := range all {
		s |= 1 << c
	}
	return s
}

// pairing is a set of pairs of roles.
type pairing uint8

const (
	writerThere pairing = 1 << iota // Secondary here, Primary there
	otherRoles

	anyRoles = writerThere | otherRoles
)

// diskNeed is a set of whether the own disk can do it.
type diskNeed uint8

const (
	withDisk diskNeed = 1 << iota
	without

	anyDisk = withDisk | without
)

var (
	anyConn     = ^conns(0)
	connected   = in(sm.Connected, sm.StartingSyncS, sm.StartingSyncT, sm.WFBitMapS, sm.WFBitMapT, sm.WFSyncUUID, sm.SyncSource, sm.SyncTarget, sm.VerifyS, sm.VerifyT, sm.PausedSyncS, sm.PausedSyncT, sm.Ahead, sm.Behind)
	introduced  = connected | in(sm.WFReportParams)
	serving     = in(sm.SyncSource, sm.PausedSyncS)
	exchanging  = in(sm.WFBitMapS, sm.WFBitMapT)
	notExchange = in(sm.Connected, sm.StartingSyncS, sm.StartingSyncT)
	marking     = in(sm.Connected, sm.StartingSyncT, sm.WFBitMapT, sm.WFSyncUUID, sm.SyncTarget, sm.PausedSyncT, sm.Behind)
	takesUUID   = in(sm.WFSyncUUID, sm.Behind)
	beforeUUID  = in(sm.StartingSyncT, sm.WFBitMapT)
)

// The rules of packets that are alike. The first row that fits counts; the last one of each fits everything.
var (
	otherwise = rule{anyConn, anyRoles, anyDisk, whatever, end}

	never   = []rule{otherwise}
	always  = []rule{{anyConn, anyRoles, anyDisk, whatever, take}}
	present = []rule{{introduced, anyRoles, anyDisk, whatever, take}, otherwise}
	ignored = []rule{{introduced, anyRoles, anyDisk, whatever, drop}, otherwise}
	answer  = []rule{{connected, anyRoles, anyDisk, asked, take}, otherwise}
	// A block that was asked for by a resync that has ended, or its refusal.
	blockAnswer = []rule{
		{connected, anyRoles, anyDisk, asked, take},
		{connected, anyRoles, anyDisk, abandoned, drop},
		otherwise,
	}
	// Who writes is Primary, and this node is not.
	writing = []rule{
		{connected, writerThere, withDisk, whatever, take},
		{connected, writerThere, without, whatever, refuse},
		otherwise,
	}
	bitmapPart = []rule{
		{exchanging, anyRoles, anyDisk, asked, take},
		{notExchange, anyRoles, anyDisk, whatever, drop}, // the exchange was given up here, because a disk has gone
		otherwise,
	}
	blockRequest = []rule{
		{serving, anyRoles, withDisk, whatever, take},
		{connected, anyRoles, anyDisk, whatever, refuse}, // the resync has ended here, and the Target does not know yet
		otherwise,
	}
)

// admissions is the one table of what the peer may say when: packet, roles, connection state, what is outstanding. What a packet
// says is judged where it is acted on: a range here, a state or a change of one in package statemachine. Source: docs/drbd-wire.md 14 to 17.
var admissions = map[wire.Cmd][]rule{
	wire.CmdPing:     always,
	wire.CmdPingAck:  {{anyConn, anyRoles, anyDisk, asked, take}, otherwise},
	wire.CmdProtocol: {{in(greetings), anyRoles, anyDisk, whatever, take}, otherwise}, // once

	wire.CmdProtocolUpdate: present,
	wire.CmdSyncParam89:    present,
	wire.CmdSizes:          present,
	wire.CmdUUIDs:          present,
	wire.CmdState:          present,
	wire.CmdUnplugRemote:   present,
	wire.CmdDelayProbe:     ignored,

	// It may be sent as soon as the sockets are up. Who grants it leaves, and hears no other.
	wire.CmdConnStChgReq: always,
	wire.CmdStateChgReq: {
		{introduced, anyRoles, anyDisk, nothing, take},
		{introduced, anyRoles, anyDisk, openSame, again},
		{introduced, anyRoles, anyDisk, openOther, refuse},
		otherwise,
	},
	wire.CmdStateChgReply:    answer,
	wire.CmdConnStChgReply:   answer,
	wire.CmdData:             writing,
	wire.CmdTrim:             writing,
	wire.CmdZeroes:           writing,
	wire.CmdBarrier:          {{connected, anyRoles, anyDisk, whatever, take}, otherwise}, // the last one may come after the demotion
	wire.CmdDataRequest:      {{connected, writerThere, withDisk, whatever, take}, {connected, anyRoles, anyDisk, whatever, refuse}, otherwise},
	wire.CmdRSDataRequest:    blockRequest,
	wire.CmdRSThinReq:        blockRequest,
	wire.CmdDataReply:        answer,
	wire.CmdNegDReply:        answer,
	wire.CmdRSDataReply:      blockAnswer,
	wire.CmdNegRSDReply:      blockAnswer,
	wire.CmdRSCancel:         blockAnswer,
	wire.CmdRecvAck:          answer,
	wire.CmdWriteAck:         answer,
	wire.CmdRSWriteAck:       answer,
	wire.CmdNegAck:           answer,
	wire.CmdBarrierAck:       answer,
	wire.CmdBitmap:           bitmapPart,
	wire.CmdCompressedBitmap: bitmapPart,
	// The writes of a Primary whose bitmap is sent already, or that is Ahead; the last ones may come after P_SYNC_UUID.
	wire.CmdOutOfSync: {
		{marking, writerThere, withDisk, whatever, take},
		{marking, writerThere, without, whatever, drop},
		otherwise,
	},
	// A resync begins only if a handshake or a request has agreed on one. It may be heard of before the answer to this node's invalidate, or
	// before its bitmap is set, and is kept then.
	wire.CmdSyncUUID: {
		{takesUUID | beforeUUID, anyRoles, anyDisk, whatever, take},
		{in(sm.Connected), anyRoles, anyDisk, asked, take},
		{in(sm.Connected), anyRoles, without, whatever, drop}, // this disk has gone meanwhile
		otherwise,
	},

	// Verify, checksums, thin provisioning and two Primaries are not served.
	wire.CmdOVRequest: never, wire.CmdOVReply: never, wire.CmdOVResult: never, wire.CmdCsumRSRequest: never, wire.CmdRSIsInSync: never,
	wire.CmdRSDeallocated: never, wire.CmdWSame: never, wire.CmdSuperseded: never, wire.CmdRetryWrite: never,
	// These belong before the parameter exchange, and are the connector's.
	wire.CmdAuthChallenge: never, wire.CmdAuthResponse: never, wire.CmdInitialData: never, wire.CmdInitialMeta: never, wire.CmdConnectionFeatures: never,
}

// rulesOf are the rows of a packet number: admissions, for the hot path.
var rulesOf = func() (all [64][]rule) {
	for cmd, rules := range admissions {
		if int(cmd) < len(all) {
			all[cmd] = rules
		}
	}
	return all
}()

// fits reports whether a row is about a standing.
func (r *rule) fits(s standing) bool {
	roles, disk := otherRoles, without
	if s.role == sm.Secondary && s.peer == sm.Primary {
		roles = writerThere
	}
	if s.disk {
		disk = withDisk
	}
	return r.conns&(1<<s.conn) != 0 && r.roles&roles != 0 && r.disk&disk != 0 && r.what&s.what != 0
}

// admitted looks the verdict up.
func admitted(cmd wire.Cmd, s standing) verdict {
	if int(cmd) >= len(rulesOf) {
		return end
	}
	rules := rulesOf[cmd]
	for i := range rules {
		if rules[i].fits(s) {
			return rules[i].verdict
		}
	}
	return end
}

// admitPacket is the verdict about a packet for a volume, and the error that ends the connection.
func (e *Engine) admitPacket(v *volume, cmd wire.Cmd, what outstanding) (verdict, error) {
	s := standing{conn: v.state.Conn, role: v.state.Role, peer: v.state.Peer, disk: v.can(cmd), what: what}
	if !e.conn.protocolSeen {
		s.conn = greetings
	}
	if got := admitted(cmd, s); got != end {
		return got, nil
	}
	return end, s.breach(cmd)
}

// admitConn is admitPacket for a packet of the connection.
func (e *Engine) admitConn(cmd wire.Cmd, what outstanding) error {
	s := standing{conn: greetings, what: what}
	for _, v := range e.vols {
		if e.conn.protocolSeen {
			s.conn = max(s.conn, v.state.Conn)
		}
	}
	if admitted(cmd, s) == end {
		return s.breach(cmd)
	}
	return nil
}

// can reports whether the own disk can do what a packet asks for.
func (v *volume) can(cmd wire.Cmd) bool {
	switch cmd {
	case wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq:
		return v.attached && v.state.ReadsLocally()
	case wire.CmdData, wire.CmdTrim, wire.CmdZeroes:
		// Until it hears what this disk is, a peer without one may take it for good. Nothing would tell that an old one has the newer data.
		return v.usable() && (v.state.ReadsLocally() || !v.peerWorksHere())
	case wire.CmdSyncUUID:
		return v.state.Disk >= sm.Negotiating
	}
	return v.usable()
}

// breach says what the peer should not have sent.
func (s standing) breach(cmd wire.Cmd) error {
	switch {
	case cmd == wire.CmdAuthChallenge:
		return protocolErrorf("the peer asks this node to authenticate, and it has no secret: set cram-hmac-alg and shared-secret on both nodes")
	case s.conn == greetings:
		return protocolErrorf("%v before P_PROTOCOL", cmd)
	case s.what == nothing && admitted(cmd, s.answering()) != end:
		return protocolErrorf("%v answers nothing that was asked for", cmd)
	default:
		return protocolErrorf("%v does not fit %v/%v %v", cmd, s.role, s.peer, s.conn)
	}
}

func (s standing) answering() standing {
	s.what = asked
	return s
}
