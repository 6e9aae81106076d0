package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// A Pair is two guests on one wire, eth0 of both:
//
//	alpha 10.77.0.1/24 ---- beta 10.77.0.2/24
//
// Each finds the other by name. Further network cards of their configurations follow as eth1, ….
type Pair struct {
	Alpha, Beta *Node
	dir         *runDir
}

// BootPair boots two guests side by side. Name and the first network card are
// set by it; the rest of the configurations is the caller's. If one does not
// boot, neither is left.
func BootPair(ctx context.Context, alpha, beta Config) (*Pair, error) {
	dir, err := newRunDir()
	if err != nil {
		return nil, err
	}
	p := &Pair{dir: dir}
	wire := filepath.Join(dir.dir, "wire")
	alpha.Name, beta.Name = "alpha", "beta"
	alpha.NICs = append([]NIC{{Wire: wire, Listen: true, Address: "10.77.0.1/24", MAC: "52:54:00:77:00:01"}}, alpha.NICs...)
	beta.NICs = append([]NIC{{Wire: wire, Address: "10.77.0.2/24", MAC: "52:54:00:77:00:02"}}, beta.NICs...)
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() { p.Alpha, errA = Boot(ctx, alpha) })
	both.Go(func() { p.Beta, errB = Boot(ctx, beta) })
	both.Wait()
	if err := errors.Join(errA, errB); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Nodes are both nodes, alpha first.
func (p *Pair) Nodes() []*Node { return []*Node{p.Alpha, p.Beta} }

// CutWire pulls the cable out at both ends: both guests see their carrier go. A
// node that is down, or boots meanwhile, finds it pulled. To lose packets while
// the carrier stays, use Netem with "loss 100%".
func (p *Pair) CutWire() error { return p.setWire(false) }

// JoinWire plugs the cable in again.
func (p *Pair) JoinWire() error { return p.setWire(true) }

func (p *Pair) setWire(up bool) error {
	return errors.Join(p.Alpha.SetLink(0, up), p.Beta.SetLink(0, up))
}

// Close closes both nodes and the wire.
func (p *Pair) Close() error {
	var errs []error
	for _, n := range p.Nodes() {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(append(errs, p.dir.remove())...)
}

// Netem degrades what the guest sends on a network card, as tc-netem(8) says:
// Netem(ctx, 0, "delay", "20ms", "loss", "1%"). Without arguments the wire is good again.
func (n *Node) Netem(ctx context.Context, nic int, args ...string) error {
	dev := fmt.Sprintf("eth%d", nic)
	if len(args) == 0 {
		_, err := n.Sh(ctx, "tc qdisc del dev "+dev+" root 2>/dev/null || ! tc qdisc show dev "+dev+" | grep netem")
		return err
	}
	_, err := n.Run(ctx, append([]string{"tc", "qdisc", "replace", "dev", dev, "root", "netem"}, args...)...)
	return err
}
