package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An apt is a private apt state: its own sources, lists, status and archives.
// The machine's apt is only read (sources, keys, network settings), never changed.
type apt struct {
	dir string
	log func(format string, args ...any)
}

// suites are the Debian suites that the rig takes packages from.
var suites = []string{"bookworm", "bookworm-backports", "trixie", "trixie-backports"}

// aptTimeout bounds one run of an apt tool.
const aptTimeout = 20 * time.Minute

// newApt makes the private state under dir from the machine's own sources.
func newApt(ctx context.Context, dir string, log func(string, ...any)) (*apt, error) {
	a := &apt{dir: dir, log: log}
	for _, sub := range []string{"lists/partial", "archives/partial", "none/partial", "sources"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	stanza, err := debianSource("/etc")
	if err != nil {
		return nil, err
	}
	acquire, err := machineAcquire(ctx)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`%sDir::State %[2]q;
Dir::State::lists "lists";
Dir::State::status %[3]q;
Dir::State::extended_states %[4]q;
Dir::Cache %[2]q;
Dir::Cache::archives "archives";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts %[5]q;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`, acquire, dir, filepath.Join(dir, "status"), filepath.Join(dir, "extended_states"), filepath.Join(dir, "sources"))
	files := map[string]string{"apt.conf": conf, "sources/rig.sources": stanza, "status": ""}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// debianSource finds the machine's entry for a Debian archive under etc and
// writes it anew for the suites of the rig.
func debianSource(etc string) (string, error) {
	var all []source
	deb822, _ := filepath.Glob(filepath.Join(etc, "apt/sources.list.d/*.sources"))
	oneLine, _ := filepath.Glob(filepath.Join(etc, "apt/sources.list.d/*.list"))
	for _, path := range deb822 {
		if text, err := os.ReadFile(path); err == nil {
			all = append(all, parseDeb822(string(text))...)
		}
	}
	for _, path := range append([]string{filepath.Join(etc, "apt/sources.list")}, oneLine...) {
		if text, err := os.ReadFile(path); err == nil {
			all = append(all, parseOneLine(string(text))...)
		}
	}
	known := []string{codename(etc), "bookworm", "trixie", "stable", "oldstable", "testing", "sid", "unstable"}
	// Other archives use Debian's suite names too: the one signed by Debian's keys comes first.
	var any *source
	for i, s := range all {
		switch {
		case !s.archive(known):
		case strings.Contains(s.get("Signed-By"), "debian-archive"):
			return s.withSuites(suites...), nil
		case any == nil:
			any = &all[i]
		}
	}
	if any != nil {
		return any.withSuites(suites...), nil
	}
	return "", fmt.Errorf("no Debian archive among the apt sources of this machine (%s): the rig downloads Debian packages; add a Debian entry",
		filepath.Join(etc, "apt"))
}

// codename is the machine's Debian release, or a word that matches no suite.
func codename(etc string) string {
	text, _ := os.ReadFile(filepath.Join(etc, "os-release"))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return "-"
}

// machineAcquire returns the machine's network settings for apt (proxies and
// the like). Hooks are not taken: they would act on the machine's own apt.
func machineAcquire(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "", fmt.Errorf("apt-config dump (the rig needs apt): %w", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Acquire::") && !strings.HasPrefix(line, "Acquire::Languages") {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// run calls one apt tool in the private state, in the archive directory, and
// returns its standard output.
func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	return a.runIn(ctx, "archives", name, args...)
}

func (a *apt) runIn(ctx context.Context, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(a.dir, dir)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(stderr.String(), 5))
	}
	return stdout.String(), nil
}

// update fetches the package lists.
func (a *apt) update(ctx context.Context) error {
	a.log("fetching the package lists of %s", strings.Join(suites, ", "))
	_, err := a.run(ctx, "apt-get", "update", "-qq", "--error-on=any")
	return err
}

// download brings the packages and, with closure, everything they depend on
// into the archive directory and returns the paths of the package files.
func (a *apt) download(ctx context.Context, suite string, closure bool, packages []string) ([]string, error) {
	args := []string{"-qq", "-y", "-t", suite}
	if closure {
		args = append(args, "install", "--download-only")
	} else {
		args = append(args, "download")
	}
	args = append(args, packages...)
	// What lies in the archive directory is not listed, so the list is made for an empty one.
	none := "Dir::Cache::archives=" + filepath.Join(a.dir, "none")
	uris, err := a.runIn(ctx, "none", "apt-get", append([]string{"--print-uris", "-o", none}, args...)...)
	if err != nil {
		return nil, err
	}
	files, err := parseURIs(uris)
	if err != nil {
		return nil, err
	}
	var paths, want []string
	for _, f := range files {
		path := filepath.Join(a.dir, "archives", f.name)
		paths = append(paths, path)
		if info, err := os.Stat(path); err != nil || info.Size() != f.size {
			want = append(want, f.name)
		}
	}
	if len(want) == 0 {
		return paths, nil
	}
	a.log("downloading %d packages for %s", len(want), strings.Join(packages, " "))
	if _, err := a.run(ctx, "apt-get", args...); err != nil {
		return nil, err
	}
	return paths, nil
}

// An archiveFile is one line of `apt-get --print-uris`.
type archiveFile struct {
	name string // as stored in the archive directory
	size int64  // bytes
}

// parseURIs reads lines of the form 'URI' NAME SIZE HASH.
func parseURIs(out string) ([]archiveFile, error) {
	var files []archiveFile
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "'") {
			continue
		}
		var f archiveFile
		end := strings.LastIndex(line, "' ")
		if end < 0 {
			return nil, fmt.Errorf("apt-get --print-uris: cannot read %q", line)
		}
		if _, err := fmt.Sscan(line[end+2:], &f.name, &f.size); err != nil || filepath.Base(f.name) != f.name {
			return nil, fmt.Errorf("apt-get --print-uris: cannot read %q", line)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("apt-get --print-uris named no package: %q", lastLines(out, 3))
	}
	return files, nil
}

// A versioned kernel package, as against the meta packages that depend on it.
var kernelPackage = regexp.MustCompile(`^linux-(image|binary|modules|base)-[0-9]`)

// kernelPackages follows the meta package of a suite to the packages that hold
// the kernel image, its modules and their index: one package in 6.12, several in 7.x.
func (a *apt) kernelPackages(ctx context.Context, suite string) ([]string, error) {
	var found []string
	queue := []string{"linux-image-cloud-amd64/" + suite}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		show, err := a.run(ctx, "apt-cache", "show", "--no-all-versions", "-t", suite, name)
		if err != nil {
			return nil, err
		}
		for _, dep := range parseDepends(show) {
			if kernelPackage.MatchString(dep) && !slices.Contains(found, dep) {
				found = append(found, dep)
				queue = append(queue, dep)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("suite %s has no linux-image-cloud-amd64", suite)
	}
	return found, nil
}

// parseDepends returns the names in the Depends field of a package record,
// first alternatives only.
func parseDepends(record string) []string {
	var names []string
	for line := range strings.Lines(record) {
		value, ok := strings.CutPrefix(line, "Depends:")
		if !ok {
			continue
		}
		for dep := range strings.SplitSeq(value, ",") {
			first, _, _ := strings.Cut(dep, "|")
			if words := strings.Fields(first); len(words) > 0 {
				names = append(names, words[0])
			}
		}
	}
	return names
}

// lastLines is the end of a tool's output, for error messages.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "; ")
}
