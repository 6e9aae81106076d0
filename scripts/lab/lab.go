package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// Resource is the name of the resource that a lab serves.
const Resource = "r0"

// NoSecret as Options.Secret lets the nodes believe an address.
const NoSecret = "none"

// Options describe a lab. The zero value is a pair of urbd nodes on the newest
// kernel with one volume of 64 MiB.
type Options struct {
	Kernel   vm.Kernel
	Init     vm.Init  // what the guests run as their first process
	Size     int64    // bytes of each backing disk; 0 is 64 MiB
	BetaSize int64    // of beta's, if it differs
	Block    int      // logical block size of alpha's disks, bytes; 0 is 512
	Volumes  int      // 0 is 1
	Protocol string   // "" is C
	Secret   string   // shared-secret of both; "": a fresh one, NoSecret: none
	Net      []string // further options of the section net, without semicolons
	BetaNet  []string // what beta has instead of Net, if not nil
	Disk     []string // of the section disk
	External bool     // metadata on disks of their own
	Mapper   bool     // backing disks are devices of the device mapper, as [Mapped] names them
	Backing  []string // what urbd has instead of each volume's disk: "" is the disk
	NoZeroes []int    // volumes whose disks can be discarded, and do not write zeroes by themselves
	Driver   string   // "alpha" or "beta" runs the kernel's DRBD; "": none
	Cache    vm.CacheMode
	Memory   int64
	CPUs     int   // of each guest; 0 is two
	Extra    int64 // bytes of a further disk that urbd does not use, [Lab.ExtraDisk]; 0: none

	Commands  []string          // packages of this module to build for both guests, like ./scripts/lab/recorder
	Databases bool              // SQLite and PostgreSQL are in the guests
	Files     map[string]string // further files for both guests
	Log       func(format string, args ...any)
}

func (o *Options) fill() {
	if o.Kernel == "" {
		o.Kernel = vm.Linux7
	}
	if o.Size == 0 {
		o.Size = 64 << 20
	}
	if o.BetaSize == 0 {
		o.BetaSize = o.Size
	}
	o.Volumes = max(o.Volumes, 1)
	if o.Protocol == "" {
		o.Protocol = "C"
	}
	if o.Secret == "" {
		o.Secret = rand.Text()
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
}

// Lab is two running nodes.
type Lab struct {
	*vm.Pair
	Options Options
	dir     string
}

// Start builds urbd and boots both nodes; nothing is configured yet.
func Start(ctx context.Context, o Options) (*Lab, error) {
	o.fill()
	dir, err := os.MkdirTemp("", "urbd-lab-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Options: o, dir: dir}
	if err := l.boot(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return l, nil
}

func (l *Lab) boot(ctx context.Context) error {
	files, err := vm.BuildBinaries(ctx, filepath.Join(l.dir, "bin"), l.Options.Commands...)
	if err != nil {
		return err
	}
	if l.Options.Databases {
		databases, err := vm.Databases(ctx, l.Options.Log)
		if err != nil {
			return err
		}
		maps.Copy(files, databases)
	}
	maps.Copy(files, l.Options.Files)
	node := func(name string, size int64, block int) vm.Config {
		c := vm.Config{Kernel: l.Options.Kernel, Init: l.Options.Init, Memory: l.Options.Memory, CPUs: l.Options.CPUs, Files: files, Log: l.Options.Log}
		for i := range l.Options.Volumes {
			c.Disks = append(c.Disks, vm.Disk{Path: l.diskPath(name, i), Size: size, Cache: l.Options.Cache, Block: block, NoWriteZeroes: slices.Contains(l.Options.NoZeroes, i)})
		}
		if l.Options.External {
			c.Disks = append(c.Disks, vm.Disk{Path: filepath.Join(l.dir, name+"-meta"), Size: metaSize(size) * int64(l.Options.Volumes)})
		}
		if l.Options.Extra > 0 {
			c.Disks = append(c.Disks, vm.Disk{Path: filepath.Join(l.dir, name+"-extra"), Size: l.Options.Extra})
		}
		return c
	}
	l.Pair, err = vm.BootPair(ctx, node("alpha", l.Options.Size, l.Options.Block), node("beta", l.Options.BetaSize, 0))
	return err
}

// metaSize is room for flexible external metadata of a disk, in bytes.
func metaSize(size int64) int64 { return max(1<<20, 1<<17+size/32768*2) }

func (l *Lab) diskPath(node string, vol int) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s-disk%d", node, vol))
}

// Close ends both nodes and removes their disks.
func (l *Lab) Close() error {
	err := l.Pair.Close()
	os.RemoveAll(l.dir)
	return err
}

// Prepare makes a booted node ready: the driver, the configuration, the wire.
func (l *Lab) Prepare(ctx context.Context, n *vm.Node) error {
	if err := l.mapDisks(ctx, n); err != nil {
		return err
	}
	if l.runsDriver(n) {
		if _, err := n.Sh(ctx, "mkdir -p /var/lock /var/lib/drbd && modprobe drbd usermode_helper=/bin/true"); err != nil {
			return err
		}
		return n.PutFile(ctx, "/etc/drbd.conf", 0o600, []byte(l.config(n, "/dev/drbd")))
	}
	if _, err := n.Sh(ctx, "modprobe ublk_drv && mkdir -p /etc/urbd.d"); err != nil {
		return err
	}
	return n.PutFile(ctx, "/etc/urbd.d/r0.res", 0o600, []byte(l.config(n, "/dev/ublkb")))
}

func (l *Lab) runsDriver(n *vm.Node) bool { return l.Options.Driver == n.Name() }

// config is the resource as the configuration of one node.
func (l *Lab) config(n *vm.Node, device string) string {
	var b strings.Builder
	net := l.Options.Net
	if n == l.Beta && l.Options.BetaNet != nil {
		net = l.Options.BetaNet
	}
	if device == "/dev/drbd" {
		b.WriteString("global { usage-count no; }\n")
	}
	fmt.Fprintf(&b, "resource %s {\n", Resource)
	fmt.Fprintf(&b, "\tnet {\n\t\tprotocol %s;\n\t\ttimeout 150;\n\t\tping-timeout 60;\n\t\tconnect-int 3;\n\t\tping-int 3;\n", l.Options.Protocol)
	if l.Options.Secret != NoSecret {
		fmt.Fprintf(&b, "\t\tcram-hmac-alg sha256;\n\t\tshared-secret %q;\n", l.Options.Secret)
	}
	for _, o := range net {
		fmt.Fprintf(&b, "\t\t%s;\n", o)
	}
	b.WriteString("\t}\n\tdisk {\n")
	for _, o := range l.Options.Disk {
		fmt.Fprintf(&b, "\t\t%s;\n", o)
	}
	b.WriteString("\t}\n")
	for i, host := range []string{"alpha", "beta"} {
		fmt.Fprintf(&b, "\ton %s {\n\t\taddress 10.77.0.%d:7789;\n", host, i+1)
		for v := range l.Options.Volumes {
			meta := "internal"
			if l.Options.External {
				meta = fmt.Sprintf("/dev/vd%c[0]", 'a'+l.Options.Volumes)
			}
			fmt.Fprintf(&b, "\t\tvolume %d {\n\t\t\tdevice %s%d minor %d;\n\t\t\tdisk %s;\n\t\t\tmeta-disk %s;\n\t\t}\n", v, device, v, v, l.backing(v), meta)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Urbd runs the command line on a node: urbd, or drbdadm where the kernel's
// DRBD is in its place.
func (l *Lab) Urbd(ctx context.Context, n *vm.Node, args ...string) (vm.Result, error) {
	tool := "urbd"
	if l.runsDriver(n) {
		tool = "drbdadm"
	}
	return n.Run(ctx, append([]string{tool}, args...)...)
}

// Device is the block device of a volume on a node.
func (l *Lab) Device(n *vm.Node, vol int) string {
	if l.runsDriver(n) {
		return fmt.Sprintf("/dev/drbd%d", vol)
	}
	return fmt.Sprintf("/dev/ublkb%d", vol)
}

// Up brings a fresh pair to Connected: metadata, up, and both have met.
func (l *Lab) Up(ctx context.Context) error {
	err := each(l.Nodes(), func(n *vm.Node) error {
		if err := l.Prepare(ctx, n); err != nil {
			return err
		}
		if _, err := l.Urbd(ctx, n, "create-md", "--force", Resource); err != nil {
			return err
		}
		_, err := l.Urbd(ctx, n, "up", Resource)
		return err
	})
	if err != nil {
		return err
	}
	return l.WaitState(ctx, l.Alpha, "cstate", "Connected", time.Minute)
}

// each does something on several nodes at the same time.
func each(nodes []*vm.Node, do func(*vm.Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Sync makes a node Primary over fresh disks and waits until both are UpToDate.
func (l *Lab) Sync(ctx context.Context, n *vm.Node) error {
	if _, err := l.Urbd(ctx, n, "primary", "--force", Resource); err != nil {
		return err
	}
	return l.WaitUpToDate(ctx, n)
}

// WaitUpToDate waits until both disks are UpToDate, as a node sees it.
func (l *Lab) WaitUpToDate(ctx context.Context, n *vm.Node) error {
	return l.WaitState(ctx, n, "dstate", "UpToDate/UpToDate", 5*time.Minute)
}

// WaitState waits until a one-word verb prints what is wanted for every volume.
func (l *Lab) WaitState(ctx context.Context, n *vm.Node, verb, want string, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	last := ""
	for {
		r, err := l.Urbd(ctx, n, verb, Resource)
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %s is %q, not %s, after %v\n%s", n.Name(), verb, last, want, bound, l.Diagnose(n))
		}
		last = r.Text()
		if err == nil && allAre(last, want) {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func allAre(lines, want string) bool {
	fields := strings.Fields(lines)
	for _, f := range fields {
		if f != want {
			return false
		}
	}
	return len(fields) > 0
}

// whereUrbdIs prints the processes of urbd, and where in the kernel their threads are.
const whereUrbdIs = `for p in $(pidof urbd); do echo "urbd $p: $(tr '\0' ' ' </proc/$p/cmdline), $(grep State /proc/$p/status)"
	for t in /proc/$p/task/*; do echo "$t: $(head -n 3 $t/stack 2>/dev/null | tr '\n' ' ')"; done; done`

// Diagnose is what a person would look at first on a node.
func (l *Lab) Diagnose(n *vm.Node) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	script := "timeout 10 urbd status --verbose 2>&1; tail -n 60 /var/log/urbd/*.log 2>/dev/null; dmesg | tail -n 20; " + whereUrbdIs
	if l.Options.Init == vm.Systemd {
		script += "; systemctl list-jobs; journalctl --no-pager -o short-monotonic -n 100"
	}
	if l.runsDriver(n) {
		script = "cat /proc/drbd; dmesg | tail -n 40"
	}
	r, err := n.Sh(ctx, script)
	if err != nil {
		return fmt.Sprintf("%v\n%s", err, n.Console())
	}
	return r.Text()
}
