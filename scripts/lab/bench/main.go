// Command bench is scripts/bench: urbd against the kernel's own DRBD, on the same
// work, in the same guest, in the same run. What counts is the ratio; the machine
// under it is as noisy as it likes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

func main() {
	kernel := flag.String("kernel", "7", "kernel of the guest: 6.12 or 7")
	rounds := flag.Int("rounds", 3, "how often each work is measured on each side")
	seconds := flag.Int("seconds", 8, "length of one fio run")
	only := flag.String("only", "", "one work only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, vm.Kernel(*kernel), *rounds, *seconds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, k vm.Kernel, rounds, seconds int, only string) error {
	b, err := start(ctx, k)
	if err != nil {
		return err
	}
	defer b.node.Close()
	fmt.Printf("Linux %s, one guest of 2 CPUs, ramdisks of %d MiB, both ends over loopback, protocol C, %d rounds of %d s\n\n",
		b.node.Release(), diskMiB, rounds, seconds)
	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "work\turbd\tDRBD\tunit\tratio\t")
	for _, work := range works {
		if only != "" && only != work.name {
			continue
		}
		own, theirs, err := b.compare(ctx, work, rounds, seconds)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%s\t%.2f\t\n", work.name, own, theirs, work.unit, own/theirs)
	}
	if only == "" || only == "initial sync" {
		own, theirs, err := b.syncRates(ctx, rounds)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "initial sync\t%.0f\t%.0f\tMiB/s\t%.2f\t\n", own, theirs, own/theirs)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return b.footprint(ctx)
}

// median of a few measurements.
func median(v []float64) float64 {
	for i := 1; i < len(v); i++ {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v[len(v)/2]
}

// idleTime is how long the wake-ups of an idle resource are counted: several pings, each of which may have the monitor
// of the Go runtime look round some dozen times.
const idleTime = 40 * time.Second
