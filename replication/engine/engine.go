package engine

import (
	"fmt"

	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/statemachine"
)

// Lengths of fixed parts, in bytes.
const (
	dataFixed     = 24
	trimFixed     = 28
	blockReqFixed = 24
	blockAckFixed = 24
	barrierFixed  = 8
)

const (
	featureWSame  = uint32(wire.FeatureWSame)
	featureZeroes = uint32(wire.FeatureWZeroes)

	diskInconsistent = statemachine.Inconsistent
)

// Engine is one resource. See the package comment for how it is driven.
type Engine struct {
	cfg  Config
	now  Instant
	vols []*volume
	pool *pool
	conn conn
	cmds []*command

	consents uint64 // to be the source of a resync, for the peer; they number volume.unheard

	advancing, advanceAgain bool // commandsAdvance is at work; it has to look again

	ios          ioTable
	writes       writeTable
	reads        readTable
	freePeerReqs []*peerReq
	flushes      []*flushReq
	freeFlushes  []*flushReq

	freeEpochFlushes []*epochFlush
	readyFlushes     []*flushReq

	out, spare Output
}

// New makes the engine of a resource: every volume Diskless and Secondary, the
// connection StandAlone.
func New(cfg Config) (*Engine, error) {
	cfg.Net.defaults()
	switch {
	case cfg.Random == nil:
		return nil, fmt.Errorf("engine: Config.Random is missing")
	case len(cfg.Volumes) == 0 || len(cfg.Volumes) > 64:
		return nil, fmt.Errorf("engine: %d volumes, 1 to 64 are supported", len(cfg.Volumes))
	case cfg.Net.Protocol < ProtocolA || cfg.Net.Protocol > ProtocolC:
		return nil, fmt.Errorf("engine: protocol %d does not exist", cfg.Net.Protocol)
	}
	if need := MinBuffers + VolumeBuffers*len(cfg.Volumes); len(cfg.Buffers) < need {
		return nil, fmt.Errorf("engine: %d bytes of buffers, at least %d are needed", len(cfg.Buffers), need)
	}
	e := &Engine{cfg: cfg}
	mem := cfg.Buffers
	for i, vc := range cfg.Volumes {
		vc.Disk.defaults()
		if e.volume(vc.Number) != nil || vc.Number < 0 || vc.Number > 65534 || i > 0 && vc.Number < cfg.Volumes[i-1].Number {
			return nil, fmt.Errorf("engine: volume numbers must be ascending and below 65535")
		}
		v := &volume{number: vc.Number, cfg: vc, state: statemachine.Initial, block: smallestBlock, users: vc.Users}
		own := mem[:VolumeBuffers:VolumeBuffers]
		v.meta.record, v.meta.chunk, own = own[:PageSize:PageSize], own[PageSize:metaMemory:metaMemory], own[metaMemory:]
		v.proof.block, own = own[:largestBlock:largestBlock], own[largestBlock:]
		v.reserve = reserve{newPool(own[:reserveSize]), newPool(own[reserveSize:])}
		mem = mem[VolumeBuffers:]
		e.vols = append(e.vols, v)
	}
	e.pool = newPool(mem)
	e.conn.init()
	return e, nil
}

// at moves the clock, which never goes back.
func (e *Engine) at(now Instant) { e.now = max(e.now, now) }

// Drain ends a turn: it starts what was collected in it and returns everything
// that the owner is to do.
func (e *Engine) Drain() *Output {
	e.finishTurn()
	out := e.out
	e.spare.Disk, e.spare.Done, e.spare.Events = e.spare.Disk[:0], e.spare.Done[:0], e.spare.Events[:0]
	e.out, e.spare = e.spare, out
	return &e.spare
}

// finishTurn runs what works better once for many.
func (e *Engine) finishTurn() {
	e.boundQueues()
	for _, v := range e.vols {
		if v.exchange.sender != nil {
			e.sendBitmap(v)
		}
		e.pumpResync(v)
		e.writeLog(v)
	}
	e.serveReads()
	e.settlePeerEpochs()
}

func (e *Engine) emit(ev Event) { e.out.Events = append(e.out.Events, ev) }

// notice tells a person something about a volume.
func (e *Engine) notice(v *volume, l Level, text string) {
	n := -1
	if v != nil {
		n = v.number
	}
	e.emit(Notice{Vol: n, Level: l, Text: text})
}
