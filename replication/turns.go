package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Whoever opens backing stores, or starts and stops devices, does so alone. Others wait for their turn, in the order of their coming, but not for
// one of a lower rank: that is told to end, and says who has overtaken it.
type rank int

const (
	recovering rank = iota // users that were left get their devices back; tried again by itself
	ordering               // an order
	forcing                // an order with --force, and the end of the daemon
)

// turns gives one at a time its turn.
type turns struct {
	token chan struct{} // holds one while somebody has the turn

	mu  sync.Mutex // leaf: guards the rest
	all map[*turn]struct{}
	now *turn // who has the token; nil: nobody, or somebody who has just got it
}

// A turn is somebody who has it, or waits for it.
type turn struct {
	name string
	rank rank
	end  context.CancelCauseFunc
}

func newTurns() *turns {
	return &turns{token: make(chan struct{}, 1), all: make(map[*turn]struct{})}
}

// take runs f when it is its turn. The context of f ends also when somebody comes who does not wait for it; the error is an
// *OvertakenError then, or has one in it.
func (t *turns) take(ctx context.Context, name string, as rank, f func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	me := &turn{name, as, end}
	t.come(me)
	defer t.leave(me)
	select {
	case t.token <- struct{}{}:
		defer func() { <-t.token }()
	case <-ctx.Done():
		if over := overtaken(ctx); over != nil {
			return over
		}
		return fmt.Errorf("%s is still at work (--force does not wait for it): %w", t.atWork(), ctx.Err())
	}
	t.begin(me)
	err := f(ctx)
	if over := overtaken(ctx); over != nil && err != nil && !errors.Is(err, over) {
		return fmt.Errorf("%w: %w", over, err)
	}
	return err
}

func (t *turns) come(me *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.all {
		if other.rank < me.rank {
			other.end(&OvertakenError{By: me.name})
		}
	}
	t.all[me] = struct{}{}
}

func (t *turns) begin(me *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = me
}

func (t *turns) leave(me *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, me)
	if t.now == me {
		t.now = nil
	}
}

// atWork names who has the turn.
func (t *turns) atWork() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		return "another command"
	}
	return t.now.name
}

// An OvertakenError ends what does not get, or keep, its turn because of an order that does not wait for it.
type OvertakenError struct{ By string }

func (e *OvertakenError) Error() string { return "it was overtaken by " + e.By }

// overtaken is why a context has ended, if it has been overtaken; otherwise nil.
func overtaken(ctx context.Context) error {
	over := new(OvertakenError)
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &over) {
		return over
	}
	return nil
}
