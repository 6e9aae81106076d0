// Command rigctl is the program behind scripts/rig: the virtual machines of
// the tests, for people.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

const usage = `usage: scripts/rig COMMAND

  fetch [6.12|7]                 download and unpack what guests need (all kernels)
  exec [OPTIONS] KERNEL -- CMD   run CMD in a fresh guest, return its exit code
  shell [OPTIONS] KERNEL         a shell in a fresh guest
  pair [OPTIONS] KERNEL          two guests, alpha and beta, on one wire

OPTIONS
  --file HOST:GUEST   put a file (or the files of a directory) into the guest, repeatable
  --build PACKAGE     build a package of the checkout into /usr/local/bin, repeatable;
                      ./DIR.test builds the tests of ./DIR
  --disk SIZE         add a disk of SIZE (64M, 1G; sparse, thrown away), /dev/vda, vdb, …
  --disk FILE         add a disk kept in FILE
  --append WORDS      add to the kernel's command line
  --memory SIZE       of a guest, 1G unless given
  --timeout DURATION  of exec, 10m unless given
  --systemd           a Debian with systemd as its first process, not a root in memory (making it needs root)
  --no-urbd           do not build cmd/urbd into the guest
  --verbose           show the guest's console at the end

KERNEL is 6.12 or 7. Downloads go to $URBD_RIG_CACHE, else to urbd-rig in the user's
cache directory. Nothing is installed; root is not needed.
`

// failure is the exit code for what is not the command's own: as ssh, apart
// from the codes that programs use.
const failure = 255

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "rig:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Print(usage)
		return 0, nil
	}
	o, err := parse(args[1:])
	if err != nil {
		fmt.Fprint(os.Stderr, usage)
		return failure, err
	}
	switch args[0] {
	case "fetch":
		return status(fetch(ctx, o))
	case "exec":
		return execute(ctx, o)
	case "shell":
		return shell(ctx, o)
	case "pair":
		return status(pair(ctx, o))
	}
	fmt.Fprint(os.Stderr, usage)
	return failure, fmt.Errorf("unknown command %q", args[0])
}

func status(err error) (int, error) {
	if err != nil {
		return failure, err
	}
	return 0, nil
}

// options are what the command line says after the command.
type options struct {
	files    words
	packages words
	disks    words
	args     words
	memory   string
	timeout  time.Duration
	noUrbd   bool
	systemd  bool
	verbose  bool
	words    []string // KERNEL and the command
}

// words collects the values of a repeated option.
type words []string

func (w *words) String() string     { return strings.Join(*w, " ") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// parse reads options before and after the kernel, up to "--".
func parse(args []string) (*options, error) {
	o := &options{}
	set := flag.NewFlagSet("rig", flag.ContinueOnError)
	set.Usage = func() {}
	set.SetOutput(os.Stderr)
	set.Var(&o.files, "file", "")
	set.Var(&o.packages, "build", "")
	set.Var(&o.disks, "disk", "")
	set.Var(&o.args, "append", "")
	set.StringVar(&o.memory, "memory", "1G", "")
	set.DurationVar(&o.timeout, "timeout", 10*time.Minute, "")
	set.BoolVar(&o.systemd, "systemd", false, "")
	set.BoolVar(&o.noUrbd, "no-urbd", false, "")
	set.BoolVar(&o.verbose, "verbose", false, "")
	var command []string
	for i, a := range args {
		if a == "--" {
			args, command = args[:i], args[i+1:]
			break
		}
	}
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		if set.NArg() == 0 {
			break
		}
		o.words = append(o.words, set.Arg(0))
		args = set.Args()[1:]
	}
	o.words = append(o.words, command...)
	return o, nil
}

// kernel takes the first word as the kernel and returns the rest.
func (o *options) kernel() (vm.Kernel, []string, error) {
	if len(o.words) == 0 {
		return "", nil, errors.New("which kernel: 6.12 or 7?")
	}
	k, err := vm.ParseKernel(o.words[0])
	return k, o.words[1:], err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "rig: "+format+"\n", args...) }

func fetch(ctx context.Context, o *options) error {
	kernels := vm.Kernels
	if len(o.words) > 0 {
		k, _, err := o.kernel()
		if err != nil {
			return err
		}
		kernels = []vm.Kernel{k}
	}
	for _, k := range kernels {
		img, err := vm.Prepare(ctx, k, progress)
		if err != nil {
			return err
		}
		fmt.Printf("%s: Linux %s is ready\n", k, img.Release)
	}
	return nil
}
