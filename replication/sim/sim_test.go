package sim

import (
	"bytes"
	"flag"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seed    = flag.Uint64("sim.seed", 0, "replay one seed and print the story")
	seeds   = flag.Int("sim.seeds", 0, "number of seeds; 0: 300, fewer with -short or the race detector")
	first   = flag.Uint64("sim.first", 1, "first seed")
	events  = flag.Int("sim.events", 3000, "events of each seed, before the faults cease")
	storm   = flag.Bool("sim.storm", false, "seeds with storms: several troubles at once, again and again")
	verbose = flag.Bool("sim.v", false, "with -sim.seed: every packet")
)

// defaultSeeds is how many seeds an ordinary run has.
var defaultSeeds = 300

// found are seeds that broke a promise once, when there were no conditions and no media yet: see conditions.go and media.go.
var found = []uint64{
	20261127508, 20261127946, 20261128127, 20261128307, 20261128398, 20261128436, 20263000118, 20263000289, 20263000380, 20263000571, 20263000634,
	20263000889, 20263001309, 20263001394, 20263001590, 20263001683, 20263001710, 20263001947, 20263001950, 20264000284, 20264000736, 20264000815, 20264000871,
	20262000573, 20262001138, 20264002115, 20264002374, 20264002436, 20265000111, 20265000224, 20265000347, 20265001128, 20265001326,
	20266000297, 20266000350, 20266001140, 20267000466, 20267001050, 20267001335, 2026112700906, 2026112703538, 2026112707301, 2026112710642, 2026112712368, 2026112711655,
	2026112709203, 2026112711294, 2026112710027, 2026121500665,
}

// later are seeds that broke one since, each with the number of events that it needed.
var later = map[uint64]int{
	32000003: 1000, 32002926: 1000, 32000416: 1000, 5000210: 1500, 5000377: 1500, 3000020: 1500, 5000212: 1500, 32001571: 1000, 32000876: 1000, 8200810: 1000, 61000664: 1000, 61003873: 1000, 61005139: 1000, 61005358: 1000,
	61005382: 1000, 61005522: 1000, 61005951: 1000, 62000120: 1000, 62000166: 1000, 63000117: 1000, 64000294: 3000, 90003594: 1000, 90003944: 1000, 90004478: 1000, 90006389: 1000, 90006735: 1000, 90007256: 1000, 90008236: 1000, 67: 1000, 5215: 1000, 9497: 1000, 9025: 1000, 90021250: 1000, 92002201: 1000, 92005446: 1000, 91002766: 1000, 91004752: 1000, 91005451: 1000, 91006055: 1000,

	92006608: 1000, // a write that only the daemon knew to be missing on its disk was answered, and the daemon died
	93101071: 1000, // a write that came in while its disk was lost and back cost the new one
	93101119: 1000, // one volume's disk was wanted by the peer's handshake, the other's attach by a connection
	93010955: 1000, // a generation that was begun alone, because of a lie about the peer's disk on the connection before
	93002503: 1000, // a request that nobody made crossed with one to invalidate the peer: neither disk was good, and both were the same
	93002934: 1000, // a peer's disk that was called Inconsistent was good again without a resync
	94125957: 1000, // the model took the data of a node for the newer whose promotion was never written, nor answered
	98000923: 1000, // with protocol B both disks failed, the peer's before it had written what it had received
	98000097: 1000, // the model took what a Primary's power loss had taken for what the former Primary had not sent
	97003309: 1000, // what a Primary wrote without a peer that was said to be Inconsistent had no name when it was demoted and lost power
	97000514: 1000, // the model wanted a warning of a node that had been lied to about its peer's disk
	96001059: 1000, // the model asked the other side of a split brain for what a read had seen of a write that was neither answered nor sent
	97501068: 1000, // a Primary left before it had said that it is one of a volume whose disk hung
	94029752: 1000, // the model asked for a word to people about what a power loss had taken before the nodes parted
}

// stormy are seeds with storms that broke one, with 1000 events.
var stormy = []uint64{
	1000043,  // a disk was attached while a down went on
	1000064,  // the device of a Primary without a disk grew because of a peer that had not its data
	1000220,  // a bitmap that cannot be came to a node that had lost its disk
	1008108,  // the model took the Inconsistent disk of the peer for what a promoted node works on, whose own was lost before the answer
	1006486,  // the bitmap of an exchange that had been given up was taken for that of the next one
	1004009,  // the only disk with data was refused for the size of a peer's that was just created
	94000603, // a block that came to the target's disk in the resync after its own cleared the bits there only
	94101675, // a disk that had been given up, and back, was written to when the peer's leave was answered
	94025683, // the model had a node, promoted and without its disk at once, inherit nothing when it got the disk back
	99000943, // the target had the name of a resync that its source could not write down
	98004455, // a disk was attached when the down was done, and the model had not heard so yet
	97003295, // the model gave an order to a daemon that had died in the same moment
	1000311,  // a generation that was taken back was on the disk all the same
	97001991, // nodes that had met without their disks had agreed on a size that the one with the good disk had not
}

// TestSeeds runs many seeds, each eighth one with storms. Each kind of fault has to fire in some of them.
func TestSeeds(t *testing.T) {
	if testing.Short() {
		defaultSeeds = min(defaultSeeds, 60)
	}
	if *seeds == 0 {
		*seeds = defaultSeeds
	}
	if *seed != 0 {
		res := Run(Options{Seed: *seed, Events: *events, Story: os.Stdout, Packets: *verbose, Storms: *storm || slices.Contains(stormy, *seed), Plain: slices.Contains(found, *seed)})
		t.Logf("%d events, %v\n%v", res.Events, res.Time, &res.Counts)
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		return
	}
	var (
		mu     sync.Mutex
		counts Counts
		total  int
		length time.Duration
		wg     sync.WaitGroup
		queue  []Options
	)
	for _, s := range found {
		queue = append(queue, Options{Seed: s, Events: *events, Plain: true})
	}
	for s, n := range later {
		queue = append(queue, Options{Seed: s, Events: n})
	}
	for _, s := range stormy {
		queue = append(queue, Options{Seed: s, Events: 1000, Storms: true})
	}
	for i := range *seeds {
		queue = append(queue, Options{Seed: *first + uint64(i), Events: *events, Storms: *storm || i%8 == 7})
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				if len(queue) == 0 {
					mu.Unlock()
					return
				}
				opt := queue[0]
				queue = queue[1:]
				mu.Unlock()
				res := Run(opt)
				mu.Lock()
				counts.Add(res.Counts)
				total += res.Events
				length += res.Time
				mu.Unlock()
				if res.Err != nil {
					t.Errorf("%v\nreplay: go test ./replication/sim -run TestSeeds -sim.seed=%d -sim.events=%d -sim.storm=%v", res.Err, opt.Seed, opt.Events, opt.Storms)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d events, %v of virtual time\n%v", *seeds, total, length, &counts)
	for _, f := range []Fault{Ambiguous, SplitByLie, SplitUnheard} {
		if n := counts[f]; n > 5+*seeds/200 { // five of them are among those above
			t.Errorf("%d runs: %v", n, f)
		}
	}
	if short := short(&counts, *seeds**events); len(short) > 0 {
		t.Errorf("happened too seldom: %v", short)
	}
}

// TestReplay runs the same seeds twice: every line of the story has to be the same.
func TestReplay(t *testing.T) {
	for s := uint64(1); s <= 8; s++ {
		var story [2]bytes.Buffer
		for i := range story {
			Run(Options{Seed: s, Events: 3000, Story: &story[i], Packets: true})
		}
		a, b := strings.Split(story[0].String(), "\n"), strings.Split(story[1].String(), "\n")
		for i := range a {
			if i >= len(b) || a[i] != b[i] {
				t.Fatalf("seed %d, line %d: %q, then %q", s, i+1, a[i], b[min(i, len(b)-1)])
			}
		}
	}
}
