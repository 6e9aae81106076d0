// Command mutants is the program behind scripts/mutate: it breaks the code on
// purpose, one mutation after the other, and sees that the test which the list
// names for it fails. The tree itself stays as it is: the compiler gets the
// broken files as an overlay.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "usage: scripts/mutate [OPTIONS] [NAME...]\n\nTries the mutations of scripts/mutants/list, all or those named; one that its test does not notice is an error.\n\n")
		flag.PrintDefaults()
	}
	sample := flag.Int("sample", 0, "try `N` mutations of the list, others each day; 0: all")
	list := flag.Bool("list", false, "print the list, and see that none is stale")
	find := flag.Int("find", -1, "name every test of the packages that notices, and of `N` seeds of the simulator")
	jobs := flag.Int("j", runtime.GOMAXPROCS(0), "`N` at a time")
	flag.Parse()
	all, b, err := load(flag.Args())
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.temp)
	if *list {
		for _, m := range all {
			fmt.Printf("%-36s %v\n", m.name, m.catch)
		}
		return nil
	}
	if *sample > 0 && *sample < len(all) {
		all = sampled(all, *sample, int(time.Now().Unix()/86400))
	}
	if *find >= 0 {
		return each(ctx, all, *jobs, func(ctx context.Context, m mutation) (string, error) {
			by, err := b.find(ctx, m, *find)
			return fmt.Sprintf("%s: noticed by %d: %s", m.name, len(by), strings.Join(by, ", ")), err
		})
	}
	start := time.Now()
	if err := b.sound(ctx, all); err != nil {
		return err
	}
	err = each(ctx, all, *jobs, func(ctx context.Context, m mutation) (string, error) {
		caught, err := b.try(ctx, m)
		if err == nil && !caught {
			err = fmt.Errorf("%s survives %v: %s", m.name, m.catch, m.why)
		}
		return fmt.Sprintf("%-36s caught by %v", m.name, m.catch), err
	})
	if err == nil {
		fmt.Printf("%d mutations, all caught, in %v\n", len(all), time.Since(start).Round(time.Second))
	}
	return err
}

// load reads the list and sees that every entry of it can be applied.
func load(names []string) ([]mutation, *bench, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	all, err := readList(filepath.Join(root, "scripts/mutants/list"))
	if err != nil {
		return nil, nil, err
	}
	b := &bench{tree: tree{root: root}}
	stale := 0
	for _, m := range all {
		if _, err := b.tree.apply(m); err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			stale++
		}
	}
	if stale > 0 {
		return nil, nil, fmt.Errorf("%d entries of the list are stale", stale)
	}
	if len(names) > 0 {
		if all, err = named(all, names); err != nil {
			return nil, nil, err
		}
	}
	b.temp, err = os.MkdirTemp("", "urbd-mutate-")
	return all, b, err
}

func named(all []mutation, names []string) (chosen []mutation, err error) {
	for _, name := range names {
		before := len(chosen)
		for _, m := range all {
			if m.name == name {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no mutation %s", name)
		}
	}
	return chosen, nil
}

// sampled is every so manieth of the list; the day says where it begins, so that within some days all get their turn.
func sampled(all []mutation, n, day int) (chosen []mutation) {
	step := (len(all) + n - 1) / n
	for i := day % step; i < len(all); i += step {
		chosen = append(chosen, all[i])
	}
	return chosen
}

// each does the mutations, some at a time. The first error of each is told; all are done.
func each(ctx context.Context, all []mutation, jobs int, do func(ctx context.Context, m mutation) (string, error)) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		bad   int
		slots = make(chan struct{}, max(jobs, 1))
	)
	for _, m := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			text, err := do(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				bad++
				text = "FAIL " + err.Error()
			}
			fmt.Println(text)
		})
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case bad > 0:
		return fmt.Errorf("%d of %d mutations failed", bad, len(all))
	}
	return nil
}
