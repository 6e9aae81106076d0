package engine

import (
	"slices"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// lingerTime bounds how long a connection that ends in words, not by failure,
// may take to get the last ones out.
const lingerTime = 500 * time.Millisecond

// shortLife is how long a connection lasts at least that is looked for again at once when it ends: a peer that
// breaks it ever again gets one a second.
const shortLife = time.Second

// conn is the one connection of the resource.
type conn struct {
	phase      connPhase
	generation uint64
	link       Link
	features   uint32
	queue      [2]sendQueue
	recv       [2]receiver
	epochs     epochs
	in         peerEpochs
	apInFlight int64

	remoteReads []*remoteRead    // as many as the application asks for at once
	readsSince  Instant          // no read has waited for the peer for longer, 0: none waits
	wanted      fifo[wantedRead] // reads of the peer's application; blocks of a resync: see pace
	wantedReads int              // of both kinds, at most maxReadQueue with the blocks that are not acknowledged
	wantedOrder uint64           // of the last one
	serveAt     Instant          // when a block that waits for its turn has it, 0: none waits for time
	servedBytes int64            // of buffers, with what is read for the peer and not sent yet
	peerBusy    int              // disk I/Os and buffers on behalf of the peer: bounded by the buffers, and zeroing
	zeroing     int              // of them zero-outs, which no buffer bounds: at most maxZeroing

	protocolSeen  bool // P_PROTOCOL was received and fits
	discardMyData bool // for the next handshake
	peerDryRun    bool
	replied       bool       // to the peer's disconnect
	request       *request   // for the whole connection, answer outstanding
	departure     *departure // since the peer was looked for last
	leftAt        Instant    // when the data socket ended while that was so, 0: it has not
	replies       due        // answers to requests for the whole connection
	asked         peerAsk    // the request of the peer for it that is open
	refused       string     // why this node has given the connection up, until it looks for the peer again
	backoff       time.Duration
	owing         int  // connections in a row that ended because the peer owed an answer for too long
	closed        bool // the owner has closed the sockets
	cleaned       bool // lost has run
	lingering     bool // what is queued may still go out
	upAt          Instant

	heardAt Instant // anything came on either socket
	metaAt  Instant // anything came on meta
	pingAt  Instant // of the ping that is not answered, 0: none
	pings   uint64  // sent
	pongs   uint64  // answers to them, which come in their order
	fences  []fence // at most one of a kind and volume

	bitmapAt    Instant // a packet of any volume's bitmap was queued, or came
	bitmapBytes int64   // of all of them
}

// connPhase says what the sockets are good for.
type connPhase uint8

const (
	connNone    connPhase = iota // there is none, and none is looked for
	connSeeking                  // the owner looks for the peer
	connLive                     // both sockets are up
	connClosing                  // the owner closes
)

func (c *conn) init() {
	c.recv[DataSock].sock, c.recv[MetaSock].sock = wire.DataSock, wire.MetaSock
	c.departure = new(departure)
	c.resetEpochs()
	c.resetPeerEpochs()
}

// up reports whether packets may be exchanged.
func (c *conn) up() bool { return c.phase == connLive }

// hears reports whether what the peer sends is taken. It is not from the moment on at which one volume leaves, for whatever
// reason, because what befalls one volume befalls the connection: the sockets may stay open for the last words of
// this node, which perhaps wait for a superblock.
func (e *Engine) hears() bool {
	if !e.conn.up() {
		return false
	}
	for _, v := range e.vols {
		if v.state.Conn.Ending() {
			return false
		}
	}
	return true
}

// sending is the queue of a socket, or nil when there is no connection.
func (e *Engine) sending(sock Socket) *sendQueue {
	if !e.conn.up() {
		return nil
	}
	return &e.conn.queue[sock]
}

// stepAll applies an event of the connection to every volume.
func (e *Engine) stepAll(ev sm.Event, cause string) {
	e.stepVolumes(e.vols, ev, cause, nil)
}

// startReceiver begins to look for the peer, once for all volumes.
func (e *Engine) startReceiver() {
	c := &e.conn
	if c.phase != connNone {
		return
	}
	for _, v := range e.vols {
		if v.state.Conn != sm.Unconnected {
			return // the last volume does it
		}
	}
	c.phase, c.refused, c.departure = connSeeking, "", new(departure)
	c.generation++
	e.emit(OpenConnection{After: c.backoff})
	e.stepAll(sm.ReceiverStarted{}, "looking for the peer")
}

// ConnUp reports that both sockets are up: the parameters are exchanged next.
func (e *Engine) ConnUp(now Instant, link Link) {
	e.at(now)
	c := &e.conn
	if c.phase != connSeeking {
		return // it is being closed already; the owner's ConnClosed is on its way
	}
	c.phase, c.link, c.features = connLive, link, link.Features
	c.upAt, c.heardAt, c.metaAt, c.pingAt, c.leftAt = e.now, e.now, e.now, 0, 0
	c.protocolSeen, c.peerDryRun, c.request, c.asked, c.replies, c.fences, c.pings, c.pongs = false, false, nil, peerAsk{}, 0, nil, 0, 0
	c.resetEpochs()
	c.resetPeerEpochs()
	for i := range c.recv {
		c.recv[i].reset(e)
	}
	for _, v := range e.vols {
		v.peerDirty = false // what was written over an earlier connection, the peer has marked
		v.seq, v.peerKnown, v.peer, v.earlyUUID, v.unacked, v.peerConn = 0, false, peerSizes{block: v.peer.block}, 0, 0, sm.StandAlone
		v.exchange.reset()
		v.grant, v.replies, v.resync.abandoned = notGranted, 0, 0
	}
	e.sendProtocol()
	e.stepAll(sm.SocketsUp{}, "both sockets are up")
}

// ConnRefused reports that this node cannot use the sockets that it has found
// the peer with: the connection is given up.
func (e *Engine) ConnRefused(now Instant, why error) {
	e.at(now)
	e.refuse(why)
}

// ConnDown reports that a socket, or the link, has failed. why may be nil.
func (e *Engine) ConnDown(now Instant, t Trouble, why error) {
	e.at(now)
	c := &e.conn
	switch {
	case !c.up():
	case t == BrokenPipe && c.leftAt == 0 && c.request != nil && c.request.since != Never:
		// The peer closes data first, and its consent comes on meta: with it, this disk may be Outdated.
		c.leftAt = max(e.now, 1)
	default:
		e.trouble(t, why)
	}
}

var troubleState = map[Trouble]sm.Conn{
	NetworkFailure: sm.NetworkFailure, BrokenPipe: sm.BrokenPipe, Timeout: sm.Timeout, ProtocolError: sm.ProtocolError,
}

// trouble drops the connection and looks for the peer again.
func (e *Engine) trouble(t Trouble, why error) {
	cause := troubleState[t].String()
	if why != nil {
		cause += ": " + why.Error()
	}
	if t == Timeout {
		e.conn.owing++
	} else {
		e.conn.owing = 0
	}
	e.lose(sm.PeerLost{Why: troubleState[t]}, cause, 0)
}

// refuse drops the connection for good: StandAlone.
func (e *Engine) refuse(why error) {
	if e.conn.phase == connNone || e.conn.phase == connClosing {
		return
	}
	e.notice(nil, Error, "connection refused: "+why.Error())
	e.conn.refused = why.Error()
	e.lose(sm.Refused{Why: why}, why.Error(), lingerTime)
}

// lose takes every volume out of the connection. First all of them learn it,
// which holds answers back until new generations are durable; then the sockets are closed, also if every volume was
// leaving already and its CloseConn still waits for a superblock.
func (e *Engine) lose(ev sm.Event, cause string, linger time.Duration) {
	if e.leavesForGood() {
		ev = sm.Refused{}
	}
	e.stepAll(ev, cause)
	e.endConn(linger)
}

// leavesForGood reports whether a volume is on its way to StandAlone. The others go along, whatever happens meanwhile: what befalls
// one volume befalls the connection, and volumes that look for the peer wait for all of them.
func (e *Engine) leavesForGood() bool {
	return slices.ContainsFunc(e.vols, func(v *volume) bool { return v.state.Conn == sm.Disconnecting })
}

// lost cleans up behind a connection that ended.
func (e *Engine) lost() {
	c := &e.conn
	if c.phase != connClosing || c.cleaned {
		return
	}
	c.cleaned = true
	c.asked = peerAsk{}
	for _, v := range e.vols {
		v.asked = peerAsk{}
	}
	e.loseEpochs()
	e.loseRemoteReads()
	e.forgetReads()
	c.fences = nil
	for _, v := range e.vols {
		v.exchange.reset()
		v.loseServed()
		v.peerKnown, v.unacked = false, 0
		if v.attached {
			e.writePages(v, changedPages, nil)
		}
	}
	e.retryRequests()
	for _, v := range e.vols {
		e.dataNowhere(v)
	}
}

// closeConn ends the connection, or the search for one, because a volume leaves it; the others go along.
func (e *Engine) closeConn(v *volume, why error) {
	c := &e.conn
	if c.phase == connClosing {
		return
	}
	if c.phase == connNone {
		c.phase, c.closed, c.cleaned = connClosing, true, true
		e.closingAdvances()
		return
	}
	for _, o := range e.vols {
		if !o.state.Conn.Ending() && o.state.Conn != sm.StandAlone {
			if e.leavesForGood() {
				e.step(o, sm.Refused{Why: why}, "the connection ends")
			} else {
				e.step(o, sm.PeerLost{Why: v.state.Conn}, "the connection ends")
			}
		}
	}
	linger := time.Duration(0)
	if conn := v.state.Conn; conn == sm.Disconnecting || conn == sm.TearDown {
		linger = lingerTime
	}
	e.endConn(linger)
}

// endConn is the one place where a connection ends: the owner closes the sockets, nothing of the peer is taken any more, and
// the writes that it has not confirmed are marked and answered. Every volume knows already.
func (e *Engine) endConn(linger time.Duration) {
	c := &e.conn
	if c.phase == connNone || c.phase == connClosing {
		return
	}
	c.backoff = e.pause()
	c.phase, c.closed, c.cleaned, c.lingering = connClosing, false, false, linger > 0
	if linger == 0 {
		for i := range c.queue {
			c.queue[i].drop(e)
		}
	}
	e.emit(CloseConnection{Linger: linger})
	e.lost()
}

// ConnClosed answers CloseConnection: nothing of the connection is in flight any more.
func (e *Engine) ConnClosed(now Instant) {
	e.at(now)
	c := &e.conn
	if c.phase != connClosing {
		panic("engine: ConnClosed without CloseConnection")
	}
	c.closed, c.lingering = true, false
	for i := range c.queue {
		if c.queue[i].flying {
			c.queue[i].landed(e)
		}
		c.queue[i].drop(e)
		c.recv[i].reset(e)
	}
	e.loseRemoteReads()
	e.closingAdvances()
}

// closingAdvances ends the cleanup when local I/O on behalf of the peer has ended too.
func (e *Engine) closingAdvances() {
	c := &e.conn
	if c.phase != connClosing || !c.closed || c.peerBusy > 0 {
		return
	}
	c.phase = connNone
	e.stepAll(sm.Cleaned{}, "cleanup finished")
	e.turnStates()
}

// heard notes that the peer is alive.
func (e *Engine) heard(sock Socket) {
	e.conn.heardAt = e.now
	if sock == MetaSock {
		e.conn.metaAt = e.now
	}
}

// check turns an error of the input into the end of the connection.
func (e *Engine) check(sock Socket, err error) {
	switch {
	case err == nil || !e.conn.up():
	case isMismatch(err):
		e.refuse(err)
	case sock == MetaSock:
		e.trouble(NetworkFailure, err)
	default:
		e.trouble(ProtocolError, err)
	}
}

func isMismatch(err error) bool {
	_, ok := err.(*Mismatch)
	return ok
}

// dataSent goes on with what waited for room on the data socket.
func (e *Engine) dataSent() {
	for _, v := range e.vols {
		if v.exchange.sender != nil && e.conn.up() {
			e.sendBitmap(v)
		}
	}
}
