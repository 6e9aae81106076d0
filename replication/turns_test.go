package replication

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// hold has somebody take the turn until the returned function is called, which gives what became of it. Its work ends with err, at the latest when it is overtaken.
func hold(t *testing.T, all *turns, as rank, err error) (end func() error) {
	t.Helper()
	began, over, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		result <- all.take(context.Background(), "the first", as, func(ctx context.Context) error {
			close(began)
			select {
			case <-over:
			case <-ctx.Done():
			}
			return err
		})
	}()
	<-began
	return func() error { close(over); return <-result }
}

func nothingToDo(context.Context) error { return nil }

// An order with --force ends an orderly one, which says so beside its own error; one of the same rank waits for it, and says for what when its time is over.
func TestTurns(t *testing.T) {
	over := new(OvertakenError)
	failed := errors.New("the disk does not answer")
	for _, c := range []struct {
		as       rank
		err      error
		overtake bool
	}{{ordering, failed, false}, {forcing, nil, true}, {forcing, failed, true}} {
		all := newTurns()
		end := hold(t, all, ordering, c.err)
		ctx, cancel := context.WithCancel(t.Context())
		if !c.overtake {
			cancel()
			if err := all.take(ctx, "the second", c.as, nothingToDo); err == nil || !strings.Contains(err.Error(), "the first is still at work") {
				t.Errorf("an order of the same rank: %v", err)
			}
			if err := end(); err != failed {
				t.Errorf("it is overtaken by its like: %v", err)
			}
		} else {
			if err := all.take(ctx, "the second", c.as, nothingToDo); err != nil {
				t.Errorf("an order with --force: %v", err)
			}
			if err := end(); !errors.Is(err, c.err) || errors.As(err, &over) != (c.err != nil) {
				t.Errorf("what it has overtaken ended with %v, its work with %v", err, c.err)
			}
		}
		cancel()
		if got := all.atWork(); got != "another command" || len(all.all) != 0 {
			t.Errorf("%s is at work when all have left, and %d are known", got, len(all.all))
		}
	}
}

// Who waits for the turn when an order with --force comes hears that, and does not say that somebody else is at work.
func TestWaitingForTheTurnIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTurns()
		end := hold(t, all, forcing, nil)
		waits := make(chan error, 1)
		go func() { waits <- all.take(context.Background(), "the second", ordering, nothingToDo) }()
		synctest.Wait()
		all.come(&turn{"the third", forcing, func(error) {}})
		over := new(OvertakenError)
		if err := <-waits; !errors.As(err, &over) || over.By != "the third" {
			t.Errorf("it ends with %v", err)
		}
		if err := end(); err != nil {
			t.Errorf("the one of the same rank ends with %v", err)
		}
	})
}
