package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// work is one fio job.
type work struct {
	name string
	rw   string
	bs   string
	qd   int
	unit string
}

var works = []work{
	{"4 KiB random write, depth 1", "randwrite", "4k", 1, "IOPS"},
	{"4 KiB random write, depth 32", "randwrite", "4k", 32, "IOPS"},
	{"256 KiB sequential write, depth 8", "write", "256k", 8, "MiB/s"},
	{"4 KiB random read, depth 32", "randread", "4k", 32, "IOPS"},
}

// compare measures one work on both sides in turn and gives both medians.
func (b *bench) compare(ctx context.Context, w work, rounds, seconds int) (own, theirs float64, err error) {
	var a, d []float64
	for range rounds {
		for _, side := range []struct {
			dev string
			out *[]float64
		}{{"/dev/ublkb0", &a}, {"/dev/drbd10", &d}} {
			v, err := b.fio(ctx, side.dev, w, seconds)
			if err != nil {
				return 0, 0, err
			}
			*side.out = append(*side.out, v)
		}
	}
	return median(a), median(d), nil
}

func (b *bench) fio(ctx context.Context, dev string, w work, seconds int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+time.Minute)
	defer cancel()
	r, err := b.node.Run(ctx, "fio", "--name=w", "--filename="+dev, "--rw="+w.rw, "--bs="+w.bs, "--iodepth="+strconv.Itoa(w.qd),
		"--ioengine=libaio", "--direct=1", "--time_based", "--runtime="+strconv.Itoa(seconds), "--ramp_time=1", "--norandommap",
		"--randrepeat=0", "--output-format=json")
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, b.diagnose(ctx))
	}
	var out struct {
		Jobs []struct {
			Read, Write struct {
				IOPS float64 `json:"iops"`
				BW   float64 `json:"bw"` // KiB/s
			}
		}
	}
	text := r.Text()
	if i := strings.IndexByte(text, '{'); i > 0 {
		text = text[i:] // warnings come before
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Jobs) == 0 {
		return 0, fmt.Errorf("fio printed no result: %v", err)
	}
	j := out.Jobs[0]
	if w.unit == "MiB/s" {
		return (j.Read.BW + j.Write.BW) / 1024, nil
	}
	return j.Read.IOPS + j.Write.IOPS, nil
}

// syncRates measures full resyncs, forced by invalidating the peer's disk.
func (b *bench) syncRates(ctx context.Context, rounds int) (own, theirs float64, err error) {
	var a, d []float64
	for range rounds {
		v, err := b.resync(ctx, "urbd -c /etc/a.conf --host alpha --run-dir /run/urbd-a", "a")
		if err != nil {
			return 0, 0, err
		}
		a = append(a, v)
		if v, err = b.resync(ctx, "drbdadm -c /etc/drbd-a.conf", "da"); err != nil {
			return 0, 0, err
		}
		d = append(d, v)
	}
	return median(a), median(d), nil
}

func (b *bench) resync(ctx context.Context, tool, res string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, err := b.node.Sh(ctx, fmt.Sprintf(`set -e
now() { cut -d' ' -f1 /proc/uptime; }
%[1]s invalidate-remote %[2]s
t0=$(now)
while [ "$(%[1]s dstate %[2]s)" != UpToDate/UpToDate ]; do sleep 0.05; done
echo $t0 $(now)`, tool, res))
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, b.diagnose(ctx))
	}
	var t0, t1 float64
	if _, err := fmt.Sscan(r.Text(), &t0, &t1); err != nil || t1 <= t0 {
		return 0, fmt.Errorf("no times in %q", r.Text())
	}
	return diskMiB / (t1 - t0), nil
}

// footprint prints what an idle, connected resource costs.
func (b *bench) footprint(ctx context.Context) error {
	r, err := b.node.Sh(ctx, fmt.Sprintf(`
for r in a b; do
	pid=$(cat /run/urbd-$r/$r.pid 2>/dev/null || pgrep -f "run-dir /run/urbd-$r.* run")
	[ -n "$pid" ] || { echo "no daemon $r"; exit 1; }
	w() { for t in /proc/$pid/task/*/status; do grep ctxt_switches: $t; done | awk '{s += $2} END {print s}'; }
	before=$(w); sleep %d; after=$(w)
	echo $r $((after - before)) $(awk '/VmRSS/ {print $2}' /proc/$pid/status) $(awk '/VmLck/ {print $2}' /proc/$pid/status)
done`, int(idleTime.Seconds())))
	if err != nil {
		return err
	}
	fmt.Println()
	for _, line := range strings.Split(r.Text(), "\n") {
		var name string
		var switches, rss, locked float64
		if _, err := fmt.Sscan(line, &name, &switches, &rss, &locked); err != nil {
			return fmt.Errorf("no footprint in %q", line)
		}
		fmt.Printf("idle and connected, node %s: %.1f wake-ups a second, %.0f MiB resident (%.0f MiB locked)\n",
			name, switches/idleTime.Seconds(), rss/1024, locked/1024)
	}
	return nil
}

func (b *bench) diagnose(ctx context.Context) string {
	r, _ := b.node.Sh(ctx, "tail -n 40 /var/log/urbd*/*.log; cat /proc/drbd; dmesg | tail -n 20")
	return r.Text()
}

type bench struct{ node *vm.Node }
