//go:build rig

package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urbd/urbd/scripts/lab/records"
	"github.com/urbd/urbd/scripts/vm"
)

// recorderPackage is for [Options.Commands].
const recorderPackage = "./scripts/lab/recorder"

// A recording is what a test has written to a device over its whole life, by several recorders one after the other, and what of
// it was confirmed. Their lines come out of the guest while they run, so a cut does not reach what is known.
type recording struct {
	b    *bench
	plan records.Plan
	vol  int
	sync int // writes of a worker between two FLUSHes

	answered, synced []records.Run // of recorders that have ended
	after            []uint64      // the last write of each worker that may have been made
	now              *recorder
}

func (b *bench) newRecording(vol int, seed uint64, mib int64) *recording {
	r := &recording{b: b, vol: vol, sync: 8, plan: records.Plan{Seed: seed, Workers: 4, Blocks: mib << 20 / records.BlockSize}}
	r.after = make([]uint64, r.plan.Workers)
	return r
}

// A recorder is one that runs.
type recorder struct {
	process *vm.Process
	mu      sync.Mutex
	partial string
	workers []records.Progress
	lines   int
	bad     error
	said    strings.Builder // on its standard error
}

// Write takes what it tells.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.partial + string(p)
	for {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			r.partial = text
			return len(p), nil
		}
		text = rest
		worker, progress, err := records.ParseProgress(line)
		if err != nil || worker >= len(r.workers) {
			r.bad = errors.Join(r.bad, fmt.Errorf("recorder: %q: %w", line, err))
			continue
		}
		r.workers[worker] = progress
		r.lines++
	}
}

func (r *recorder) progress() []records.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]records.Progress(nil), r.workers...)
}

func (r *recording) args(n *vm.Node, more ...string) []string {
	args := []string{"recorder", "--device", r.b.Device(n, r.vol), "--seed", fmt.Sprint(r.plan.Seed), "--workers", fmt.Sprint(r.plan.Workers),
		"--blocks", fmt.Sprint(r.plan.Blocks)}
	return append(args, more...)
}

// start begins to write on a Primary.
func (r *recording) start(n *vm.Node) {
	r.b.t.Helper()
	rec := &recorder{}
	var from []string
	for _, w := range r.after {
		rec.workers = append(rec.workers, records.Progress{Answered: w, Synced: w})
		from = append(from, fmt.Sprint(w))
	}
	argv := r.args(n, "--sync", fmt.Sprint(r.sync), "--from", strings.Join(from, ","))
	var err error
	rec.process, err = n.Start(r.b.ctx, vm.Cmd{Argv: argv, Stdout: rec, Stderr: &rec.said})
	r.b.ok(err)
	r.now = rec
	r.goesOn(1)
}

// total is the sum of the workers' writes.
func (r *recording) total() (n uint64) {
	for _, p := range r.now.progress() {
		n += p.Answered
	}
	return n
}

// goesOn waits until so many more writes were answered, and fails if the recorder has ended: it does so with an I/O error only.
func (r *recording) goesOn(writes uint64) {
	r.b.t.Helper()
	end, began := r.total()+writes, time.Now()
	for r.total() < end {
		select {
		case <-r.now.process.Done():
			r.b.ok(fmt.Errorf("the recorder has ended: %s", r.now.said.String()))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(began) > 2*time.Minute {
			r.b.ok(fmt.Errorf("no write was answered for %v", time.Since(began)))
		}
	}
}

// unsure is more writes than a worker makes between two of its lines.
const unsure = 1 << 20

// ended takes note of what a recorder has told whose guest is gone, or which was stopped.
func (r *recording) ended() {
	r.b.t.Helper()
	<-r.now.process.Done()
	r.b.ok(r.now.bad)
	if said := r.now.said.String(); said != "" {
		r.b.ok(fmt.Errorf("the recorder had an error: %s", said))
	}
	for w, p := range r.now.progress() {
		for _, known := range []struct {
			runs *[]records.Run
			last uint64
		}{{&r.answered, p.Answered}, {&r.synced, p.Synced}} {
			if known.last > r.after[w] {
				*known.runs = append(*known.runs, records.Run{Worker: w, First: r.after[w] + 1, Last: known.last})
			}
		}
		r.after[w] = p.Answered + unsure
	}
	r.now = nil
}

// stop ends the recorder.
func (r *recording) stop() {
	r.b.t.Helper()
	r.b.ok(r.now.process.Signal(9))
	r.ended()
}

// check reads the device on a node, which is Primary. After a cut of both nodes only what was synced has to be there.
func (r *recording) check(n *vm.Node, onlySynced bool) {
	r.b.t.Helper()
	runs := r.answered
	if onlySynced {
		runs = r.synced
		r.answered = slices.Clone(r.synced) // what is lost now does not come back
	}
	var words []string
	writes := uint64(0)
	for _, run := range runs {
		words = append(words, fmt.Sprintf("%d:%d-%d", run.Worker, run.First, run.Last))
		writes += run.Last - run.First + 1
	}
	if len(runs) == 0 {
		r.b.ok(errors.New("nothing was confirmed: there is nothing to check"))
	}
	res, err := n.Run(r.b.ctx, r.args(n, "--check", strings.Join(words, " "))...)
	r.b.ok(err)
	r.b.t.Logf("of %d confirmed writes: %s", writes, res.Text())
}
