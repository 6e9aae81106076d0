package vm

import (
	"context"
	"fmt"
	"strconv"
)

// A DRBDEnd is one end of a connection between the kernel's own DRBD and a
// peer: another DRBDEnd, in the other guest or in the same one (two minors,
// 127.0.0.1 and 127.0.0.2, are a complete pair), or urbd.
type DRBDEnd struct {
	Resource string
	Minor    int
	Disk     string   // backing device, like /dev/vda; internal metadata
	Local    string   // address:port of this end
	Peer     string   // address:port of the other
	Net      []string // options of drbdsetup connect; nil is --protocol=C
	DiskOpts []string // options of drbdsetup attach
}

// DRBDLoad loads the kernel's DRBD. Its helper programs are switched off: in a
// guest there is nobody to be fenced or told, and a missing helper holds up state changes.
func (n *Node) DRBDLoad(ctx context.Context) error {
	_, err := n.Run(ctx, "modprobe", "drbd", "minor_count=8", "usermode_helper=/bin/true")
	return err
}

// DRBDCreate writes fresh v08 metadata at the end of the disk.
func (n *Node) DRBDCreate(ctx context.Context, e DRBDEnd) error {
	_, err := n.Run(ctx, "drbdmeta", "--force", strconv.Itoa(e.Minor), "v08", e.Disk, "internal", "create-md")
	return err
}

// DRBDUp makes the resource, attaches the disk and starts connecting. It does
// not wait for the peer.
func (n *Node) DRBDUp(ctx context.Context, e DRBDEnd) error {
	minor := strconv.Itoa(e.Minor)
	net := e.Net
	if net == nil {
		net = []string{"--protocol=C"}
	}
	for _, args := range [][]string{
		{"new-resource", e.Resource},
		{"new-minor", e.Resource, minor, "0"},
		append([]string{"attach", minor, e.Disk, e.Disk, "internal"}, e.DiskOpts...),
		append([]string{"connect", e.Resource, "ipv4:" + e.Local, "ipv4:" + e.Peer}, net...),
	} {
		if _, err := n.drbdsetup(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// DRBDDown takes the resource down. The device must not be open.
func (n *Node) DRBDDown(ctx context.Context, e DRBDEnd) error {
	_, err := n.drbdsetup(ctx, "down", e.Resource)
	return err
}

// DRBDPrimary promotes; with force also when no data is known to be good, as
// for the first synchronisation.
func (n *Node) DRBDPrimary(ctx context.Context, e DRBDEnd, force bool) error {
	args := []string{"primary", strconv.Itoa(e.Minor)}
	if force {
		args = append(args, "--force")
	}
	_, err := n.drbdsetup(ctx, args...)
	return err
}

// DRBDSecondary demotes.
func (n *Node) DRBDSecondary(ctx context.Context, e DRBDEnd) error {
	_, err := n.drbdsetup(ctx, "secondary", strconv.Itoa(e.Minor))
	return err
}

// DRBDWait waits until the end is connected and in sync ("wait-sync") or just
// connected ("wait-connect"), for at most some seconds.
func (n *Node) DRBDWait(ctx context.Context, e DRBDEnd, what string, seconds int) error {
	_, err := n.drbdsetup(ctx, what, strconv.Itoa(e.Minor), fmt.Sprintf("--wfc-timeout=%d", seconds),
		fmt.Sprintf("--degr-wfc-timeout=%d", seconds-1), fmt.Sprintf("--outdated-wfc-timeout=%d", seconds-2))
	return err
}

// DRBDStatus is the kernel's view of all its devices.
func (n *Node) DRBDStatus(ctx context.Context) (string, error) {
	r, err := n.Run(ctx, "cat", "/proc/drbd")
	return r.Text(), err
}

func (n *Node) drbdsetup(ctx context.Context, args ...string) (Result, error) {
	return n.Run(ctx, append([]string{"drbdsetup-84"}, args...)...)
}
