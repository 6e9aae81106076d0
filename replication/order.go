package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// An order is a command that the engine has.
type order struct {
	r      *Resource
	id     uint64
	answer chan error // its reply
}

// withdrawLimit bounds how long the loop may take to say what became of an order.
const withdrawLimit = time.Second

// An UnfinishedError answers an order that was not carried out within its time.
type UnfinishedError struct {
	GoesOn bool   // it has begun, and will be carried out; otherwise it was taken back
	Why    string // what it waits for, if that is known
	Err    error  // why the context has ended

	order *order // that goes on
}

func (e *UnfinishedError) Error() string {
	s := "it was not done within its time"
	if over := new(OvertakenError); errors.As(e.Err, &over) {
		s = over.Error()
	}
	if e.GoesOn {
		s += ", and goes on, because what has begun cannot be taken back"
	} else {
		s += " and was taken back: nothing has changed, and nothing will"
	}
	if e.Why != "" {
		s += "; " + e.Why
	}
	return s
}

func (e *UnfinishedError) Unwrap() error { return e.Err }

// begin gives the engine one command. give makes it, on the loop's thread.
func (r *Resource) begin(ctx context.Context, give func(l *loop, reply func(error)) (id uint64)) (*order, error) {
	o := &order{r: r, answer: make(chan error, 1)}
	err := r.on(ctx, func(l *loop) { o.id = give(l, func(err error) { o.answer <- err }) })
	return o, err
}

// order gives the engine one command and waits for its reply.
func (r *Resource) order(ctx context.Context, cmd engine.Command) error {
	o, err := r.begin(ctx, func(l *loop, reply func(error)) uint64 { return l.command(cmd, reply) })
	if err != nil {
		return err
	}
	return o.wait(ctx)
}

// wait returns the reply. At the end of ctx the order is taken back, or if that is not possible, goes on, which the
// *UnfinishedError says.
func (o *order) wait(ctx context.Context) error {
	select {
	case err := <-o.answer:
		return err
	case <-o.r.dead:
		return o.r.errNotRunning()
	case <-ctx.Done():
		return o.withdraw(ctx)
	}
}

func (o *order) withdraw(ctx context.Context) error {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawLimit)
	defer cancel()
	var end engine.Withdrawal
	var why string
	if err := o.r.on(soon, func(l *loop) { end, why = l.withdraw(o.id) }); err != nil {
		return err
	}
	if end == engine.Answered {
		select {
		case err := <-o.answer:
			return err
		case <-o.r.dead:
			return o.r.errNotRunning()
		case <-soon.Done():
			return fmt.Errorf("%s does not answer: %w", o.r.name(), ctx.Err())
		}
	}
	return &UnfinishedError{GoesOn: end == engine.GoesOn, Why: why, Err: context.Cause(ctx), order: o}
}

// afterwards has f carry on in the background with an order that goes on, once it has succeeded.
func (r *Resource) afterwards(err error, f func(context.Context) error) {
	late := new(UnfinishedError)
	if !errors.As(err, &late) || !late.GoesOn {
		return
	}
	go func() {
		select {
		case <-r.dead:
			return
		case err := <-late.order.answer:
			if left := new(engine.LeaveError); err != nil && !errors.As(err, &left) {
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		over := new(OvertakenError)
		if err := r.turns.take(ctx, "the end of an order that went on after its time", ordering, f); err != nil && !errors.As(err, &over) {
			r.log.Error("an order that went on after its time could not be ended", "err", err)
		}
	}()
}
