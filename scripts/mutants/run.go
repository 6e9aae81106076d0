package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is how long a test may run: one that hangs has noticed.
const patience = 2 * time.Minute

// memory is how much address space such a test may take, in KiB: one that grows without bound has noticed, too.
const memory = 8 << 20

// A bench builds and runs tests, of the code as it is and of broken code.
type bench struct {
	tree tree
	temp string
	mu   sync.Mutex
	n    int
}

// build compiles the tests of a package with some files replaced.
func (b *bench) build(ctx context.Context, pkg string, changed map[string]string) (program string, err error) {
	b.mu.Lock()
	b.n++
	base := filepath.Join(b.temp, strconv.Itoa(b.n))
	b.mu.Unlock()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range changed {
		replacement := fmt.Sprintf("%s-%d.go", base, len(overlay.Replace))
		if err := os.WriteFile(replacement, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[path] = replacement
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(base+".json", data, 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", base+".json", "-o", base+".test", "./"+pkg)
	cmd.Dir = b.tree.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not compile: %w\n%s", err, out)
	}
	return base + ".test", nil
}

// run runs a test program as go test does. failed: it did not end with success.
func (b *bench) run(ctx context.Context, program, pkg string, args ...string) (out []byte, failed bool, err error) {
	args = append([]string{"-test.timeout=" + patience.String(), "-test.failfast"}, args...)
	limited := fmt.Sprintf(`ulimit -v %d && exec "$0" "$@"`, memory)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", limited, program}, args...)...)
	cmd.Dir = filepath.Join(b.tree.root, pkg)
	out, err = cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); exited && ctx.Err() == nil {
		return out, true, nil
	}
	return out, false, err
}

// args are those of a test program that has one catcher run.
func (c catcher) args() []string {
	if c.seed != 0 {
		return []string{"-test.run=^TestSeeds$", fmt.Sprintf("-sim.seed=%d", c.seed), fmt.Sprintf("-sim.events=%d", c.events)}
	}
	parts := strings.Split(c.test, "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	return []string{"-test.v", "-test.run=" + strings.Join(parts, "/")}
}

// ran reports whether the catcher's test is there: what does not exist passes.
func (c catcher) ran(out []byte) bool {
	return c.seed != 0 || bytes.Contains(out, []byte("=== RUN   "+strings.ReplaceAll(c.test, " ", "_")+"\n"))
}

// sound checks that the catchers exist, and that the code as it is passes them.
func (b *bench) sound(ctx context.Context, list []mutation) error {
	all := map[string][]catcher{}
	for _, m := range list {
		if !slices.Contains(all[m.catch.pkg], m.catch) {
			all[m.catch.pkg] = append(all[m.catch.pkg], m.catch)
		}
	}
	for pkg, catchers := range all {
		program, err := b.build(ctx, pkg, nil)
		if err != nil {
			return err
		}
		for _, c := range catchers {
			out, failed, err := b.run(ctx, program, pkg, c.args()...)
			switch {
			case err != nil:
				return err
			case failed:
				return fmt.Errorf("%v fails without a mutation:\n%s", c, tail(out))
			case !c.ran(out):
				return fmt.Errorf("there is no %v", c)
			}
		}
	}
	return nil
}

// try applies one mutation and reports whether its catcher notices.
func (b *bench) try(ctx context.Context, m mutation) (caught bool, err error) {
	changed, err := b.tree.apply(m)
	if err != nil {
		return false, err
	}
	program, err := b.build(ctx, m.catch.pkg, changed)
	if err != nil {
		return false, fmt.Errorf("%s: %w", m.name, err)
	}
	defer os.Remove(program)
	_, failed, err := b.run(ctx, program, m.catch.pkg, m.catch.args()...)
	return failed, err
}

var failure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)|-sim\.seed=(\d+) -sim\.events=(\d+)|^panic: .*`)

// find names what notices a mutation: every test of the packages, and so many seeds of the simulator.
func (b *bench) find(ctx context.Context, m mutation, seeds int) (by []string, err error) {
	changed, err := b.tree.apply(m)
	if err != nil {
		return nil, err
	}
	packages := []string{m.edits[0].dir}
	if m.catch.pkg != simulator && m.catch.pkg != packages[0] {
		packages = append(packages, m.catch.pkg)
	}
	if seeds > 0 {
		packages = append(packages, simulator)
	}
	for _, pkg := range packages {
		program, err := b.build(ctx, pkg, changed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		args := []string{"-test.failfast=false"}
		if pkg == simulator {
			args = []string{"-test.run=^TestSeeds$", "-sim.seeds=" + strconv.Itoa(seeds)}
		}
		out, _, err := b.run(ctx, program, pkg, args...)
		if err != nil {
			return nil, err
		}
		for _, f := range failure.FindAllSubmatch(out, -1) {
			switch {
			case len(f[1]) > 0:
				by = append(by, pkg+" "+string(f[1]))
			case len(f[2]) > 0:
				by = append(by, fmt.Sprintf("seed %s %s", f[2], f[3]))
			default:
				by = append(by, pkg+": "+string(f[0]))
			}
		}
		os.Remove(program)
	}
	return by, nil
}

// tail is the end of what a test has said.
func tail(out []byte) []byte { return out[max(0, len(out)-4000):] }
