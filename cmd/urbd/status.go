package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/urbd/urbd/replication"
)

func (w *world) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "print the state of resources; without a target, of all that are up", ArgsUsage: "[TARGET...]", Category: "LOOKING",
		Flags: []cli.Flag{
			boolFlag("json", "print JSON with the keys of drbdsetup"),
			boolFlag("watch", "go on, print again after every change", "w"),
			boolFlag("verbose", "print also what is as usual"),
			boolFlag("statistics", "print counters"),
			&cli.StringFlag{Name: "color", Usage: "`WHEN` states have colours: auto, always, never", Value: "auto"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("watch") {
				return timed(forever, w.watch)(c)
			}
			return timed(shortly, w.status)(c)
		},
	}
}

// A screen is where statuses go, in which form.
type screen struct {
	out      io.Writer
	layout   layout
	json     bool
	terminal bool // may be cleared
}

func (w *world) screen(c *cli.Context) (screen, error) {
	s := screen{out: w.out, json: c.Bool("json"), terminal: isTerminal(w.out)}
	s.layout = layout{verbose: c.Bool("verbose"), statistics: c.Bool("statistics")}
	switch c.String("color") {
	case "always":
		s.layout.color = true
	case "auto":
		s.layout.color = s.terminal && os.Getenv("NO_COLOR") == ""
	case "never":
	default:
		return s, usageError(fmt.Sprintf("--color=%s: write auto, always or never", c.String("color")))
	}
	return s, nil
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s screen) show(all []replication.ResourceStatus) error {
	if s.json {
		if all == nil {
			all = []replication.ResourceStatus{}
		}
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	for i := range all {
		s.layout.print(s.out, &all[i])
	}
	return nil
}

// status asks once.
func (w *world) status(c *cli.Context) error {
	s, err := w.screen(c)
	if err != nil {
		return err
	}
	targets, err := w.served(c)
	if err != nil {
		return err
	}
	var all []replication.ResourceStatus
	answers := askAll(c.Context, runDir(c), targets)
	for _, t := range targets {
		if a := answers[t]; a.err == nil {
			all = append(all, a.status)
		}
	}
	failed := w.each(c, targets, func(_ context.Context, t target) error {
		err := answers[t].err
		if notUp := new(replication.NotRunningError); errors.As(err, &notUp) && c.NArg() == 0 {
			return nil // it has gone while we looked, or its daemon has died
		}
		return err
	})
	if len(all) == 0 && failed == nil && !s.json {
		w.say(slog.LevelInfo, nothingUp)
	}
	if err := s.show(all); err != nil {
		return err
	}
	for i := range all {
		w.warnExposed(all[i].Name, all[i].Exposed)
	}
	return failed
}

// An answer is what a daemon has said of a target.
type answer struct {
	status replication.ResourceStatus
	err    error
}

// askAll asks every daemon at the same time: one that does not answer is no reason to hear nothing of the others.
func askAll(ctx context.Context, runDir string, targets []target) map[target]answer {
	answers := make([]answer, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		asked.Go(func() {
			st, err := snapshot(ctx, runDir, t.resource)
			if err == nil {
				err = hasVolume(&st, t.volume)
			}
			answers[i] = answer{only(st, t.volume), err}
		})
	}
	asked.Wait()
	of := make(map[target]answer)
	for i, t := range targets {
		of[t] = answers[i]
	}
	return of
}

const nothingUp = "no resource is up; start one with: urbd up RES"

// served are the targets of the command line, or every resource with a control socket.
func (w *world) served(c *cli.Context) ([]target, error) {
	if c.NArg() > 0 && !slices.Contains(c.Args().Slice(), "all") {
		return w.running(c)
	}
	return sockets(runDir(c))
}

// sockets finds the resources that have a control socket.
func sockets(dir string) ([]target, error) {
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []target
	for _, f := range found {
		if name, ok := strings.CutSuffix(f.Name(), ".sock"); ok {
			out = append(out, target{resource: name, volume: everyVolume})
		}
	}
	return out, nil
}

// hasVolume is the error of asking for a volume that the daemon does not have.
func hasVolume(st *replication.ResourceStatus, volume int) error {
	if volume == everyVolume || slices.ContainsFunc(st.Devices, func(d replication.DeviceStatus) bool { return d.Volume == volume }) {
		return nil
	}
	return usageError(fmt.Sprintf("%s is up without a volume %d", st.Name, volume))
}

// only leaves one volume of a status, or all for everyVolume.
func only(st replication.ResourceStatus, volume int) replication.ResourceStatus {
	if volume == everyVolume {
		return st
	}
	st.Devices = slices.DeleteFunc(slices.Clone(st.Devices), func(d replication.DeviceStatus) bool { return d.Volume != volume })
	st.Connections = slices.Clone(st.Connections)
	for i := range st.Connections {
		c := &st.Connections[i]
		c.PeerDevices = slices.DeleteFunc(slices.Clone(c.PeerDevices), func(d replication.PeerDeviceStatus) bool { return d.Volume != volume })
	}
	return st
}
