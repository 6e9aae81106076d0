package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine is one running QEMU process: one boot of a node.
type machine struct {
	session *session
	monitor *monitor
	process *os.Process
	ended   chan struct{} // closed when the process is over and reaped
	status  string        // how it ended; read after ended
	console string        // path of the console's log
}

// connectTimeout is how long QEMU may take to set itself up.
const connectTimeout = 30 * time.Second

// startMachine starts QEMU and connects to it. It does not wait for the guest.
func startMachine(ctx context.Context, img *Image, dir string, args []string) (_ *machine, err error) {
	sockets := map[string]*net.UnixListener{}
	for _, name := range []string{"agent", "qmp"} {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, err
		}
		defer l.Close()
		sockets[name] = l
	}
	m := &machine{ended: make(chan struct{}), console: filepath.Join(dir, "console.log")}
	args = append(args,
		"-chardev", "socket,id=agent,path="+escape(filepath.Join(dir, "agent")),
		"-device", "virtserialport,chardev=agent,name=org.urbd.rig",
		"-chardev", "socket,id=qmp,path="+escape(filepath.Join(dir, "qmp")), "-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=console,append=on,path="+escape(m.console), "-serial", "chardev:console")
	if err := m.spawn(img.qemu(args...), filepath.Join(dir, "qemu.log")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.kill()
			err = fmt.Errorf("%w (%s)", err, m.lastWords(dir))
		}
	}()
	agent, err := m.accept(ctx, sockets["agent"])
	if err != nil {
		return nil, err
	}
	m.session = newSession(agent)
	qmp, err := m.accept(ctx, sockets["qmp"])
	if err != nil {
		return nil, err
	}
	m.monitor, err = newMonitor(qmp)
	return m, err
}

// accept waits for QEMU to connect; if QEMU ends instead, it says so.
func (m *machine) accept(ctx context.Context, l *net.UnixListener) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-m.ended:
		case <-ctx.Done():
		case <-stop:
			return
		}
		_ = l.SetDeadline(time.Unix(1, 0)) // a closed listener has no one waiting
	}()
	conn, err := l.Accept()
	if err != nil {
		return nil, fmt.Errorf("qemu did not connect: %w", err)
	}
	return conn, nil
}

// spawn starts the process on a thread of its own that lives until it ends:
// the kernel's parent-death signal follows the thread, not the program.
func (m *machine) spawn(cmd *exec.Cmd, log string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	// Own group: a Ctrl-C at the terminal is for the program that owns the guests.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		err := cmd.Start()
		m.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // status tells more than the error
		m.status = cmd.ProcessState.String()
		close(m.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// kill ends the machine as a power cut does and waits until it is gone.
func (m *machine) kill() {
	_ = m.process.Kill() // it may have ended by itself
	<-m.ended
	m.release()
}

func (m *machine) setLink(nic int, up bool) error {
	return m.monitor.execute("set_link", map[string]any{"name": fmt.Sprintf("nic%d", nic), "up": up})
}

// release closes the connections of a machine that has ended.
func (m *machine) release() {
	if m.session != nil {
		m.session.close()
	}
	if m.monitor != nil {
		m.monitor.close()
	}
}

// processors tells what each processor is at: a guest that hangs says nothing itself.
func (m *machine) processors() string {
	var text string
	answer, err := m.monitor.ask("human-monitor-command", map[string]any{"command-line": "info registers -a"})
	if err == nil {
		err = json.Unmarshal(answer, &text)
	}
	if err != nil {
		return "processors: " + err.Error()
	}
	var at []string
	for line := range strings.Lines(text) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "RIP=") || strings.HasPrefix(word, "EIP=") || strings.HasPrefix(word, "HLT=") {
				at = append(at, word)
			}
		}
	}
	return "processors: " + strings.Join(at, " ")
}

// lastWords is what QEMU and the guest's console said last.
func (m *machine) lastWords(dir string) string {
	var parts []string
	if m.status != "" {
		parts = append(parts, "qemu: "+m.status)
	}
	for _, name := range []string{"qemu.log", "console.log"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil && len(text) > 0 {
			parts = append(parts, name+": "+lastLines(string(text), 8))
		}
	}
	return strings.Join(parts, "; ")
}

// qemu is the emulator of the cache with its own libraries and ROMs.
func (img *Image) qemu(args ...string) *exec.Cmd {
	root := img.fetched.qemu
	all := []string{"-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios")}
	cmd := rooted(context.Background(), root, "usr/bin/qemu-system-x86_64", append(all, args...)...)
	cmd.Env = append(os.Environ(), "QEMU_MODULE_DIR="+filepath.Join(root, "usr/lib/x86_64-linux-gnu/qemu"))
	return cmd
}

// machineArgs are the options that do not depend on one run's sockets.
func machineArgs(img *Image, c Config, dir *runDir) []string {
	accel := "tcg,thread=multi"
	if kvmUsable() {
		accel = "kvm"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", strconv.Itoa(c.CPUs), "-m", fmt.Sprintf("%dM", c.Memory>>20),
		"-kernel", img.vmlinuz, "-initrd", dir.path("initrd"), "-append", commandLine(c, !kvmUsable(), tscKHz()),
		"-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
	}
	for i, d := range c.Disks {
		args = append(args, d.args(i, dir.diskSocket(i))...)
	}
	if img.root != "" {
		args = append(args, "-drive", "if=none,id=root,format=raw,cache=unsafe,file="+escape(dir.path("root")), "-device", "virtio-blk-pci,drive=root,serial=root")
	}
	for i, n := range c.NICs {
		args = append(args, n.args(i)...)
	}
	return args
}

// commandLine is the kernel's. init.sh reads the words that begin with "rig.".
//
// An emulated guest boots with one processor, and init.sh brings in the others once
// the devices are mapped: while one processor maps a PCI device, QEMU 10.0 may
// send another's access to its interrupt controller astray. The guest then
// hangs, or QEMU ends in an assertion (msix_table_mmio_write); it took one boot
// in thirty. Its time stamp counters agree, whatever a watchdog that was kept
// waiting believes: without them every look at the clock is a trap. Its timer
// works: the kernel's test wants interrupts within a few ticks, and panics where
// a busy machine delivers them later. Its ciphers are not tested at each boot, and memory
// that is handed out inside of the kernel is not cleared: both are a good part of a boot.
func commandLine(c Config, emulated bool, tsc int) string {
	words := []string{"console=ttyS0", "quiet", "mitigations=off", "panic=-1", "rig.name=" + c.Name}
	if c.Init == Systemd {
		words = append(words, "net.ifnames=0")
	}
	if emulated {
		words = append(words, "maxcpus=1", "tsc=reliable", "no_timer_check", "cryptomgr.notests", "init_on_alloc=0")
		if tsc != 0 {
			words = append(words, fmt.Sprintf("tsc_early_khz=%d", tsc))
		}
	}
	var addresses []string
	for i, n := range c.NICs {
		if n.Address != "" {
			addresses = append(addresses, fmt.Sprintf("eth%d:%s", i, n.Address))
		}
	}
	if len(addresses) > 0 {
		words = append(words, "rig.net="+strings.Join(addresses, ","))
	}
	return strings.Join(append(words, c.KernelArgs...), " ")
}

// escape makes a path safe inside a comma-separated QEMU option.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
