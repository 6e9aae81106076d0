package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
)

// lookCommands print what is, and change nothing.
func (w *world) lookCommands() []*cli.Command {
	simple := func(name, usage string, split bool, do func(context.Context, io.Writer, *cli.Context, target) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "TARGET...", Category: "LOOKING",
			Action: timed(shortly, func(c *cli.Context) error {
				targets, err := w.targets(c)
				if err != nil {
					return err
				}
				if split {
					targets = perVolume(targets)
				}
				return w.printEach(c, targets, func(ctx context.Context, out io.Writer, t target) error {
					return offline(c, t, do(ctx, out, c, t))
				})
			}),
		}
	}
	return []*cli.Command{
		w.statusCommand(),
		simple("role", "print the roles: own/peer", false, role),
		simple("cstate", "print the connection state", true, cstate),
		simple("dstate", "print the disk states: own/peer", true, dstate),
		simple("show-gi", "print the generation identifiers, explained", true, showGI),
		simple("get-gi", "print the generation identifiers", true, getGI),
	}
}

// snapshot asks the daemon of a resource for its status.
func snapshot(ctx context.Context, runDir, resource string) (replication.ResourceStatus, error) {
	client, err := replication.Dial(runDir, resource)
	if err != nil {
		return replication.ResourceStatus{}, err
	}
	defer client.Close()
	return client.Status(ctx)
}

func role(ctx context.Context, out io.Writer, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s\n", st.Role, peerRole(&st))
	return nil
}

func cstate(ctx context.Context, out io.Writer, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if err == nil {
		err = hasVolume(&st, t.volume)
	}
	if err != nil {
		return err
	}
	peer, ok := peerDevice(&st, t.volume)
	if !ok {
		peer.CState = "StandAlone"
	}
	fmt.Fprintln(out, peer.CState)
	return nil
}

// dstate of a resource that is not up is what the metadata says, as drbdmeta dstate prints it.
func dstate(ctx context.Context, out io.Writer, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if notUp := new(replication.NotRunningError); errors.As(err, &notUp) {
		sb, err := superblock(ctx, t.volumes()[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%v/DUnknown\n", sb.Flags.Offline())
		return nil
	}
	if err == nil {
		err = hasVolume(&st, t.volume)
	}
	if err != nil {
		return err
	}
	own := "Diskless"
	for _, d := range st.Devices {
		if d.Volume == t.volume {
			own = d.DiskState
		}
	}
	peer, ok := peerDevice(&st, t.volume)
	if !ok {
		peer.PeerDiskState = "DUnknown"
	}
	fmt.Fprintf(out, "%s/%s\n", own, peer.PeerDiskState)
	return nil
}

func peerRole(st *replication.ResourceStatus) string {
	for _, conn := range st.Connections {
		return conn.PeerRole
	}
	return "Unknown"
}

// A peerVolume is a volume's other side.
type peerVolume struct {
	replication.PeerDeviceStatus
	connected bool
}

// peerDevice finds the other side of a volume; there is at most one peer.
func peerDevice(st *replication.ResourceStatus, volume int) (peerVolume, bool) {
	for _, conn := range st.Connections {
		for _, d := range conn.PeerDevices {
			if d.Volume == volume {
				return peerVolume{d, conn.ConnectionState == "Connected"}, true
			}
		}
	}
	return peerVolume{}, false
}
