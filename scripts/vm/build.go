package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// ModulePath is the Go module whose binaries the guests get.
const ModulePath = "github.com/urbd/urbd"

// ModuleRoot finds the checkout: $URBD_SOURCE, else the first directory from the
// working directory upwards that has the module's go.mod.
func ModuleRoot() (string, error) {
	if dir := os.Getenv("URBD_SOURCE"); dir != "" {
		return dir, nil
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+ModulePath+"\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of %s: set URBD_SOURCE", start, ModulePath)
		}
	}
}

// BuildBinaries builds cmd/urbd, when it is there, and the packages given. See BuildPackages.
func BuildBinaries(ctx context.Context, outDir string, packages ...string) (map[string]string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	if commands, _ := filepath.Glob(filepath.Join(root, "cmd/urbd/main.go")); len(commands) > 0 {
		packages = append([]string{"./cmd/urbd"}, packages...)
	}
	return BuildPackages(ctx, outDir, packages...)
}

// BuildPackages builds packages of the checkout, static, into outDir. It returns
// guest path -> host path, ready for Config.Files.
//
//	./cmd/x              a main package: /usr/local/bin/x
//	./replication.test   the tests of ./replication, with the tag "rig":
//	                     /usr/local/bin/replication.test
//	./ublk/uring.test    the same: /usr/local/bin/ublk-uring.test
func BuildPackages(ctx context.Context, outDir string, packages ...string) (map[string]string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, pkg := range packages {
		name, err := build(ctx, root, outDir, pkg)
		if err != nil {
			return nil, err
		}
		files["/usr/local/bin/"+name] = filepath.Join(outDir, name)
	}
	return files, nil
}

// built are the programs that this process has built, open: to link one takes a second or two, for each guest of each test. Their files
// may be gone with the guests that they were built for.
var built = struct {
	sync.Mutex
	programs map[string]*os.File // by checkout and package
}{programs: map[string]*os.File{}}

// build makes one static binary, once in this process, and returns its name.
func build(ctx context.Context, root, outDir, pkg string) (string, error) {
	dir, isTest := strings.CutSuffix(pkg, ".test")
	name := filepath.Base(dir)
	args := []string{"build"}
	if isTest {
		name = strings.ReplaceAll(strings.Trim(filepath.Clean(dir), "./"), "/", "-") + ".test"
		args = []string{"test", "-c", "-tags", "rig"}
	}
	out, key := filepath.Join(outDir, name), root+" "+pkg
	built.Lock()
	defer built.Unlock()
	if program := built.programs[key]; program != nil {
		return name, copyProgram(out, program)
	}
	if err := goTool(ctx, root, append(args, "-o", out, dir)...); err != nil {
		return name, err
	}
	program, err := os.Open(out)
	built.programs[key] = program
	return name, err
}

// copyProgram writes a program that is open to a file.
func copyProgram(out string, program *os.File) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	info, err := program.Stat()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(program, 0, info.Size()))
	return errors.Join(err, f.Close())
}

// goTool runs the Go tool in the checkout with cgo off. The version control stamp is
// off too: git refuses to speak about a checkout that belongs to somebody else.
func goTool(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false"), "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return errors.New("no go tool in PATH: the rig builds the binaries that it puts into guests")
		}
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// buildAgent builds the guest's agent into a directory of this run.
func buildAgent(ctx context.Context, outDir string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	name, err := build(ctx, root, outDir, "./scripts/vm/agent")
	return filepath.Join(outDir, name), err
}
