package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
)

// news is what one watched resource says: a status, or why there are no more.
type news struct {
	status replication.ResourceStatus
	err    error
	of     target
}

// watch prints the status again after every change, until it is interrupted or every resource has ended. On a
// terminal the picture stays in place.
func (w *world) watch(c *cli.Context) error {
	s, err := w.screen(c)
	if err != nil {
		return err
	}
	targets, err := w.served(c)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return &waitError{exitConfig, nothingUp}
	}
	latest := map[string]replication.ResourceStatus{} // by target
	left := len(targets)
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	for n := range follow(ctx, runDir(c), targets) {
		if n.err == nil {
			latest[n.of.String()] = only(n.status, n.of.volume)
		} else {
			delete(latest, n.of.String())
			left--
			if err := w.ended(c.Context, n); err != nil {
				return err
			}
		}
		if err := s.redraw(latest); err != nil || left == 0 {
			return err
		}
	}
	return deadline(c.Context)
}

// deadline is the error of a context that has run out of time; being interrupted is none.
func deadline(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return nil
}

// ended says that a resource is not watched any more. An interrupt ends watching quietly.
func (w *world) ended(ctx context.Context, n news) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	if notUp := new(replication.NotRunningError); errors.As(n.err, &notUp) {
		w.say(slog.LevelInfo, n.of.String()+": is down")
		return nil
	}
	return n.err
}

func (s screen) redraw(latest map[string]replication.ResourceStatus) error {
	if s.terminal && !s.json {
		fmt.Fprint(s.out, "\x1b[H\x1b[J")
	}
	var all []replication.ResourceStatus
	for _, of := range slices.Sorted(maps.Keys(latest)) {
		all = append(all, latest[of])
	}
	return s.show(all)
}

// follow watches every target from a goroutine of its own; each sends an error last. The channel is closed when all have
// ended. Who stops reading before has to end ctx.
func follow(ctx context.Context, runDir string, targets []target) <-chan news {
	out := make(chan news)
	var watchers sync.WaitGroup
	for _, t := range targets {
		watchers.Go(func() {
			send := func(n news) bool {
				n.of = t
				select {
				case out <- n:
					return n.err == nil
				case <-ctx.Done():
					return false
				}
			}
			client, err := replication.Dial(runDir, t.resource)
			if err != nil {
				send(news{err: err})
				return
			}
			defer client.Close()
			for st, err := range client.Watch(ctx) {
				if err == nil {
					err = hasVolume(&st, t.volume)
				}
				if !send(news{status: st, err: err}) {
					return
				}
			}
		})
	}
	go func() {
		watchers.Wait()
		close(out)
	}()
	return out
}
