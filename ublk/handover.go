package ublk

import (
	"context"
	"fmt"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"
)

// Quiesce hands the disk over in order: requests with the handler are finished, others wait in the kernel, and the next
// server may Recover. This Device is gone afterwards. It needs FeatureQuiesce and a recovery other than RecoverNone.
// (Without the feature, close the ring and Abandon the device: held requests are re-issued.)
func (d *Device) Quiesce(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("quiesce", err)
	}
	defer d.unlock()
	if d.getPhase() != phaseLive {
		return d.fail("quiesce", fmt.Errorf("%w: %v", ErrState, d.getPhase()))
	}
	if !Features(d.info.Flags).Has(FeatureQuiesce) {
		return d.fail("quiesce", fmt.Errorf("%w: %v", ErrUnsupported, FeatureQuiesce))
	}
	ms := uint64(0) // no limit
	if end, ok := ctx.Deadline(); ok {
		ms = uint64(max(time.Until(end).Milliseconds(), 1))
	}
	err := devCommand(ctx, uapi.CmdQuiesceDev, d.ID(), ms)
	if err == nil {
		err = d.awaitQueues(ctx)
	}
	if err != nil {
		return d.fail("quiesce", err)
	}
	d.setPhase(phaseGone)
	return d.fail("quiesce", d.closeChar())
}

// Abandon leaves the disk as a crash would, to be recovered as Config.Recovery says: requests with the handler stay
// unanswered. What the handler does with them does no harm: their Bytes stay until it completes them, and CopyOut and CopyIn
// fail with ErrState. The rings that served the device must have been closed (else ErrState). This Device is gone afterwards.
func (d *Device) Abandon(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("abandon", err)
	}
	defer d.unlock()
	d.mu.Lock()
	ses := d.serving
	d.mu.Unlock()
	if ses != nil {
		for _, q := range ses.queues {
			if q != nil && !q.ring.Closed() {
				return d.fail("abandon", fmt.Errorf("%w: the ring of queue %d is not closed", ErrState, q.id))
			}
		}
		for _, q := range ses.queues {
			if q != nil && q.alive > 0 {
				q.abandon()
			}
		}
	}
	if err := d.awaitQueues(ctx); err != nil {
		return d.fail("abandon", err)
	}
	d.setPhase(phaseGone)
	return d.fail("abandon", d.closeChar())
}

// abandon ends a queue whose ring is closed, so that what is alive of it is with the handler, or was answered too late.
func (q *queue) abandon() {
	q.remote.Lock()
	q.remote.over = true
	if q.pool != nil {
		q.pool.keep(q.alive - len(q.remote.answers))
	}
	q.remote.Unlock()
	q.copying.Lock() // the descriptor's number will be another file's
	q.char = -1
	q.copying.Unlock()
	q.alive = 0
	q.end()
}
