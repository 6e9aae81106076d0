package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
)

// waitCommands wait for something that happens by itself.
func (w *world) waitCommands() []*cli.Command {
	limit := &cli.StringFlag{Name: "wfc-timeout", Usage: "wait at most `TIME`, 0 for ever; the same as --timeout"}
	command := func(name, usage string, wait func(ctx context.Context, c *cli.Context, t target, several bool) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "TARGET...", Category: "WAITING", Flags: []cli.Flag{limit},
			Action: func(c *cli.Context) error {
				most := time.Duration(forever)
				if c.IsSet("wfc-timeout") {
					var err error
					if most, err = parseTime(c.String("wfc-timeout")); err != nil {
						return err
					}
				}
				return timedWait(most, func(c *cli.Context) error {
					targets, err := w.running(c)
					if err != nil {
						return err
					}
					several := slices.ContainsFunc(targets, func(t target) bool { return t.resource != targets[0].resource })
					return w.together(c, targets, func(ctx context.Context, t target) error { return wait(ctx, c, t, several) })
				})(c)
			},
		}
	}
	return []*cli.Command{
		command("wait-connect", "wait until the peer is connected, as long as startup { } allows", w.waitConnect),
		command("wait-sync", "wait until no resync runs, showing its progress", w.waitSync),
	}
}

// timedWait is timed for a verb whose purpose is to wait.
func timedWait(limit time.Duration, action cli.ActionFunc) cli.ActionFunc {
	if limit == 0 {
		return timed(forever, action)
	}
	return func(c *cli.Context) error {
		ctx, cancel := context.WithTimeout(c.Context, limit)
		defer cancel()
		c.Context = ctx
		return timed(forever, action)(c)
	}
}

// waitConnect waits for the connection, whatever the disks are like. Without a limit of the command line, the one of the
// configuration counts that the daemon runs with.
func (w *world) waitConnect(ctx context.Context, c *cli.Context, t target, _ bool) error {
	if !c.IsSet("timeout") && !c.IsSet("wfc-timeout") {
		st, err := snapshot(ctx, runDir(c), t.resource)
		if err != nil {
			return err
		}
		if st.WaitSeconds > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(st.WaitSeconds)*time.Second)
			defer cancel()
		} else if done, err := connected(&st); !done && err == nil {
			w.say(slog.LevelInfo, t.resource+": waiting for the peer, as long as it takes; --timeout sets a limit")
		}
	}
	return await(ctx, runDir(c), t, connected)
}

// connected is done when every connection is, and the peers have been introduced. Source: docs/drbd-cli.md 2.2, wait-connect.
func connected(st *replication.ResourceStatus) (bool, error) {
	if len(st.Connections) == 0 {
		return false, standAlone(st)
	}
	for _, conn := range st.Connections {
		if conn.ConnectionState == "StandAlone" {
			return false, standAlone(st)
		}
		meeting := func(d replication.PeerDeviceStatus) bool { return d.ReplicationState == "Off" }
		if conn.ConnectionState != "Connected" || slices.ContainsFunc(conn.PeerDevices, meeting) {
			return false, nil
		}
	}
	return true, nil
}

func standAlone(st *replication.ResourceStatus) error {
	return &waitError{exitRefused, fmt.Sprintf("it is StandAlone, nobody looks for the peer; start that with: urbd connect %s", st.Name)}
}

// await watches a resource until done says so or fails.
func await(ctx context.Context, runDir string, t target, done func(*replication.ResourceStatus) (bool, error)) error {
	client, err := replication.Dial(runDir, t.resource)
	if err != nil {
		return err
	}
	defer client.Close()
	last := "the daemon has not answered"
	for st, err := range client.Watch(ctx) {
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return &waitError{exitBelow, fmt.Sprintf("the time is up: %s; for more: urbd status %s", last, t.resource)}
			}
			return err
		}
		if err := hasVolume(&st, t.volume); err != nil {
			return err
		}
		st = only(st, t.volume)
		last = "the state is " + summary(&st)
		if ok, err := done(&st); ok || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// inTurn is standard error where several write at the same time. It is no terminal.
type inTurn struct{ *world }

func (o inTurn) Write(line []byte) (int, error) {
	o.printing.Lock()
	defer o.printing.Unlock()
	return o.world.err.Write(line)
}

// summary is a status in a few words, for messages.
func summary(st *replication.ResourceStatus) string {
	text := st.Role
	for _, conn := range st.Connections {
		text += " " + conn.ConnectionState
		for _, d := range conn.PeerDevices {
			text += " " + d.ReplicationState
		}
	}
	return text
}

// waitSync waits until both disks are equal, and shows how far the resync is: of several resources by lines.
func (w *world) waitSync(ctx context.Context, c *cli.Context, t target, several bool) error {
	var out io.Writer = w.err
	if several {
		out = inTurn{w}
	}
	meter := newMeter(out, t.String(), isTerminal(out))
	err := await(ctx, runDir(c), t, func(st *replication.ResourceStatus) (bool, error) {
		meter.show(resyncOf(st))
		return synced(st)
	})
	meter.end(err == nil)
	return err
}

// synced is done when the peers are connected and no volume resyncs. Disks that are not UpToDate then stay so without
// somebody's decision, which is worth an error.
func synced(st *replication.ResourceStatus) (bool, error) {
	if ok, err := connected(st); !ok || err != nil {
		return false, err
	}
	for _, conn := range st.Connections {
		for _, d := range conn.PeerDevices {
			if d.ReplicationState != "Established" {
				return false, nil
			}
		}
	}
	for _, d := range st.Devices {
		peer, _ := peerDevice(st, d.Volume)
		if d.DiskState == "Attaching" || d.DiskState == "Negotiating" || peer.PeerDiskState == "Negotiating" || peer.PeerDiskState == "Attaching" {
			return false, nil
		}
		if d.DiskState == "Inconsistent" && peer.PeerDiskState == "Inconsistent" {
			return false, &waitError{exitBelow, fmt.Sprintf("volume %d is Inconsistent on both nodes and no resync runs; choose the source with: urbd primary --force %s", d.Volume, st.Name)}
		}
		if d.DiskState != "UpToDate" || peer.PeerDiskState != "UpToDate" {
			return false, &waitError{exitBelow, fmt.Sprintf("volume %d is %s/%s and no resync runs; look at: urbd status %s", d.Volume, d.DiskState, peer.PeerDiskState, st.Name)}
		}
	}
	return true, nil
}
