package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Config describes a guest.
type Config struct {
	Name       string // of the host, as `uname -n` prints it; "" is "guest"
	Kernel     Kernel
	Init       Init // what it runs as its first process
	Disks      []Disk
	NICs       []NIC
	Memory     int64             // bytes; 0 is 1 GiB
	CPUs       int               // 0 is 2
	Files      map[string]string // guest path -> file of this machine, there from the first moment
	KernelArgs []string          // added to the kernel's command line
	Log        func(format string, args ...any)
}

// bootTimeout bounds one try to boot: some seconds in emulation, more on a busy
// machine. It is shorter than silence, so that it is what tells a guest that never spoke.
const bootTimeout = silence - 10*time.Second

// A Node is a guest. Between a power cut (or shutdown) and BootAgain it is
// down, and what is asked of it fails with ErrDown. Its disks are files that
// the owner may read then. Close it.
type Node struct {
	config Config
	image  *Image
	dir    *runDir
	disks  []*served // the volatile ones

	mu        sync.Mutex
	machine   *machine     // nil while down
	unplugged map[int]bool // network cards whose cable is pulled
}

// Boot starts a guest and waits until its agent answers.
func Boot(ctx context.Context, c Config) (*Node, error) {
	if c.Name == "" {
		c.Name = "guest"
	}
	if c.Memory == 0 {
		c.Memory = 1 << 30
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	c.Disks = slices.Clone(c.Disks)
	for i := range c.Disks {
		if c.Disks[i].Cache == "" {
			c.Disks[i].Cache = Writeback
		}
	}
	prepare := Prepare
	if c.Init == Systemd {
		prepare = PrepareSystem
	}
	img, err := prepare(ctx, c.Kernel, c.Log)
	if err != nil {
		return nil, err
	}
	dir, err := newRunDir()
	if err != nil {
		return nil, err
	}
	n := &Node{config: c, image: img, dir: dir, unplugged: map[int]bool{}}
	if err := n.firstBoot(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) firstBoot(ctx context.Context) error {
	agent, err := buildAgent(ctx, n.dir.path("."))
	if err != nil {
		return err
	}
	files := map[string]string{"/usr/sbin/rig-agent": agent}
	for guest, host := range n.config.Files {
		files[guest] = host
	}
	if err := n.image.withFiles(n.dir.path("initrd"), files); err != nil {
		return err
	}
	if n.image.root != "" {
		if err := copySparse(n.dir.path("root"), n.image.root); err != nil {
			return fmt.Errorf("root of the guest: %w", err)
		}
	}
	for i, d := range n.config.Disks {
		if err := d.prepare(); err != nil {
			return err
		}
		if d.Cache == Volatile {
			s, err := d.serve(n.dir.diskSocket(i))
			if err != nil {
				return err
			}
			n.disks = append(n.disks, s)
		}
	}
	return n.BootAgain(ctx)
}

// BootAgain starts a node that is down, with the same disks, wires and files.
func (n *Node) BootAgain(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine != nil {
		select {
		case <-n.machine.ended: // by itself
			n.machine.release()
			n.machine = nil
		default:
			return fmt.Errorf("%s is running", n.config.Name)
		}
	}
	err := n.bootOnce(ctx)
	if errors.Is(err, errNoLife) && ctx.Err() == nil && !kvmUsable() {
		n.log("%v: once more", err)
		err = n.bootOnce(ctx)
	}
	return err
}

// errNoLife is the cause when the agent of a fresh guest did not say a word in
// time. Nothing of the user's has run by then, so an emulated boot may be repeated.
var errNoLife = errors.New("no sign of life")

func (n *Node) bootOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, errNoLife)
	defer cancel()
	dir := n.dir.path(".")
	m, err := startMachine(ctx, n.image, dir, machineArgs(n.image, n.config, n.dir))
	if err != nil {
		return fmt.Errorf("boot %s: %w", n.config.Name, err)
	}
	for nic := range n.unplugged {
		err = errors.Join(err, m.setLink(nic, false))
	}
	if err != nil {
		m.kill()
		return fmt.Errorf("boot %s: %w", n.config.Name, err)
	}
	select {
	case <-m.session.hello:
		n.machine = m
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-m.session.closed:
		err = m.session.cause()
	}
	processors := m.processors()
	m.kill()
	return fmt.Errorf("boot %s on %s: %w (%s; %s)", n.config.Name, n.image.Release, err, m.lastWords(dir), processors)
}

func (n *Node) log(format string, args ...any) {
	if n.config.Log != nil {
		n.config.Log(format, args...)
	}
}

// Name is the guest's host name.
func (n *Node) Name() string { return n.config.Name }

// Release is the guest's kernel release.
func (n *Node) Release() string { return n.image.Release }

// Dir is a directory of this machine that lives as long as the node: a place for its disks.
func (n *Node) Dir() string { return n.dir.path(".") }

// running returns the machine of a node that is up.
func (n *Node) running() (*machine, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine == nil {
		return nil, fmt.Errorf("%s: %w", n.config.Name, ErrDown)
	}
	return n.machine, nil
}

// PowerCut ends the guest at once. When it returns, nothing of it runs and its
// disks hold what their CacheMode says; of volatile disks it returns how many
// sectors were lost and how many survived without having been flushed.
func (n *Node) PowerCut() (lost, kept int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine == nil {
		return 0, 0, nil
	}
	n.machine.kill()
	n.machine = nil
	for _, d := range n.disks {
		l, k, cerr := d.disk.Cut()
		lost, kept, err = lost+l, kept+k, errors.Join(err, cerr)
	}
	return lost, kept, err
}

// off takes note of a machine that ended in order: disks keep what they have.
func (n *Node) off() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine == nil {
		return nil
	}
	n.machine.kill()
	n.machine = nil
	var err error
	for _, d := range n.disks {
		err = errors.Join(err, d.disk.Flush())
	}
	return err
}

// Ends runs a script that ends the guest, a reboot included, and waits until it has ended; BootAgain goes on from there.
// If it does not end before ctx does, its power is cut and the error says so.
func (n *Node) Ends(ctx context.Context, script string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	m, err := n.running()
	if err != nil {
		return err
	}
	p, err := n.Start(ctx, Cmd{Argv: []string{"sh", "-c", script}})
	if err != nil {
		return err
	}
	select {
	case <-m.ended:
		return n.off()
	case <-p.Done():
		if code, err := p.Wait(); code != 0 && err == nil {
			return fmt.Errorf("%s: %q ended with %d", n.config.Name, script, code)
		}
	case <-ctx.Done():
	}
	select {
	case <-m.ended:
		return n.off()
	case <-ctx.Done():
		_, _, err := n.PowerCut()
		return errors.Join(fmt.Errorf("%s did not shut down: %w", n.config.Name, ctx.Err()), err)
	}
}

// The processors but the first leave before the devices do, for the reason that
// they come after them (see commandLine).
const shutdownScript = `sync
umount -a -r 2>/dev/null
for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 0 >$cpu; done
poweroff -f`

// Shutdown syncs and powers the guest off. If that does not end it before ctx
// does, its power is cut and the error says so.
func (n *Node) Shutdown(ctx context.Context) error {
	if n.config.Init == Systemd {
		return n.Ends(ctx, "systemctl poweroff")
	}
	return n.Ends(ctx, shutdownScript)
}

// Down is closed when the present boot has ended; of a node that is down it is
// closed already.
func (n *Node) Down() <-chan struct{} {
	m, err := n.running()
	if err != nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return m.ended
}

// Console returns what the guest wrote to its console since the first boot.
func (n *Node) Console() string {
	text, _ := os.ReadFile(filepath.Join(n.dir.path("."), "console.log")) // none before the first word
	return string(text)
}

// SetLink plugs in or pulls out the cable of a network card: the guest sees its
// carrier come or go. A node that is down, or reboots, finds the cable as it was left.
func (n *Node) SetLink(nic int, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if up {
		delete(n.unplugged, nic)
	} else {
		n.unplugged[nic] = true
	}
	if n.machine == nil {
		return nil
	}
	return n.machine.setLink(nic, up)
}

// Close cuts the power and removes what the node kept on this machine, disks
// below Dir included. It may be called twice.
func (n *Node) Close() error {
	_, _, err := n.PowerCut()
	for _, d := range n.disks {
		err = errors.Join(err, d.close())
	}
	n.disks = nil
	return errors.Join(err, n.dir.remove())
}
