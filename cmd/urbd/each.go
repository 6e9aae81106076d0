package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// each runs a verb for one target after the other. It reports every failure and returns the highest code; a code of 20
// or more, and the end of the time, end the run at once, since the next target would meet the same: those left out are named. What is named
// twice is meant once. Source: docs/drbd-cli.md 2.4.
func (w *world) each(c *cli.Context, targets []target, do func(context.Context, target) error) error {
	worst := exitOK
	for targets = once(targets); len(targets) > 0; {
		t := targets[0]
		targets = targets[1:]
		err := do(c.Context, t)
		if err == nil {
			continue
		}
		code := exitCode(w.report(t.String(), c.Command.Name, err))
		worst = max(worst, code)
		if code >= exitSystem && code != exitNoMetadata || c.Context.Err() != nil {
			w.leaveOut(targets)
			break
		}
	}
	if worst != exitOK {
		return failure(worst)
	}
	return nil
}

// together is each for what daemons carry out, all of them at the same time: one that hangs or has failed is no reason to leave
// another as it is. Only the targets of one resource have their turns one after the other. Source: docs/drbd-cli.md 2.11.
func (w *world) together(c *cli.Context, targets []target, do func(context.Context, target) error) error {
	resources := make(map[string][]target)
	for _, t := range targets {
		resources[t.resource] = append(resources[t.resource], t)
	}
	codes := make(chan int)
	for _, of := range resources {
		go func() { codes <- exitCode(w.each(c, of, do)) }()
	}
	worst := exitOK
	for range resources {
		worst = max(worst, <-codes)
	}
	if worst != exitOK {
		return failure(worst)
	}
	return nil
}

// printEach is together for what prints: all targets are asked at the same time, and what comes of them is printed in their order.
// A target that does not answer in time is reported in its place, and ends nothing. Source: docs/drbd-cli.md 2.11.
func (w *world) printEach(c *cli.Context, targets []target, ask func(context.Context, io.Writer, target) error) error {
	type answer struct {
		text bytes.Buffer
		err  error
		done chan struct{}
	}
	targets = once(targets)
	answers := make([]answer, len(targets))
	for i, t := range targets {
		a := &answers[i]
		a.done = make(chan struct{})
		go func() {
			defer close(a.done)
			a.err = ask(c.Context, &a.text, t)
		}()
	}
	worst := exitOK
	for i, t := range targets {
		a := &answers[i]
		<-a.done
		w.out.Write(a.text.Bytes()) // output keeps the error
		worst = max(worst, exitCode(w.report(t.String(), c.Command.Name, a.err)))
	}
	if worst != exitOK {
		return failure(worst)
	}
	return nil
}

// once drops the targets that were named before.
func once(targets []target) []target {
	var out []target
	for _, t := range targets {
		if !slices.ContainsFunc(out, func(o target) bool { return o.String() == t.String() }) {
			out = append(out, t)
		}
	}
	return out
}

// leaveOut names targets that a verb was not tried on.
func (w *world) leaveOut(targets []target) {
	var names []string
	for _, t := range targets {
		names = append(names, t.String())
	}
	if len(names) > 0 {
		w.say(slog.LevelWarn, "not tried: "+strings.Join(names, ", "))
	}
}
