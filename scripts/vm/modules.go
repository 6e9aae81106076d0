package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// guestModules are the kernel modules of a guest, with everything that they
// depend on. One that the kernel has built in is left out; one that it does not have at all is an error.
var guestModules = []string{
	// the machine itself
	"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
	// what is replicated, and by what
	"ublk_drv", "drbd", "raid1", "nbd",
	// disks that are fast, or that fail
	"brd", "null_blk", "loop", "scsi_debug", "sd_mod", "dm-flakey", "dm-delay", "dm-log-writes", "dm-thin-pool", "dm-mod",
	// wires that are slow or lossy
	"sch_netem", "sch_tbf", "veth", "dummy",
	// what users put on top
	"ext4", "xfs", "overlay",
	"crc32c_generic", "crc32c-intel", "libcrc32c", "sha1_generic", "sha256_generic", "hmac", "md5", "tls",
}

// optionalModules may be missing: newer kernels have merged them into others.
var optionalModules = []string{
	"crc32c_generic", "crc32c-intel", "libcrc32c", "sha1_generic", "sha256_generic", "hmac", "md5", "virtio_pci", "crc32c-cryptoapi",
}

// A moduleIndex is what depmod knows of a kernel's modules.
type moduleIndex struct {
	files   map[string]string   // module name -> path below the module directory
	needs   map[string][]string // path -> paths it depends on
	builtin map[string]bool
}

// moduleName is the name under which the kernel knows a module file.
func moduleName(path string) string {
	name := filepath.Base(path)
	if i := strings.Index(name, ".ko"); i >= 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, "-", "_")
}

// readModuleIndex reads modules.dep and modules.builtin of a module directory.
func readModuleIndex(dir string) (*moduleIndex, error) {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	return parseModuleIndex(string(dep), string(builtin)), nil
}

func parseModuleIndex(dep, builtin string) *moduleIndex {
	m := &moduleIndex{files: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	for line := range strings.Lines(dep) {
		path, needs, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		m.files[moduleName(path)] = path
		m.needs[path] = strings.Fields(needs)
	}
	for line := range strings.Lines(builtin) {
		m.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	return m
}

// closure returns the sorted paths of the named modules and all they depend
// on (modules.dep is transitive already).
func (m *moduleIndex) closure(names, optional []string) ([]string, error) {
	set := map[string]bool{}
	for _, name := range names {
		key := moduleName(name)
		path, ok := m.files[key]
		if !ok {
			if m.builtin[key] || slices.Contains(optional, name) {
				continue
			}
			return nil, fmt.Errorf("this kernel has no module %s", name)
		}
		set[path] = true
		for _, need := range m.needs[path] {
			set[need] = true
		}
	}
	var paths []string
	for path := range set {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, nil
}

// moduleFiles are the paths, below a module directory, of the named modules, of all they depend on, and of depmod's index.
func moduleFiles(dir string, names []string) ([]string, error) {
	index, err := readModuleIndex(dir)
	if err != nil {
		return nil, err
	}
	paths, err := index.closure(names, optionalModules)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "modules.*"))
	for _, file := range files {
		paths = append(paths, filepath.Base(file))
	}
	return paths, err
}

// loadOrder is closure in an order in which the modules can be loaded one after the other.
func (m *moduleIndex) loadOrder(names, optional []string) ([]string, error) {
	paths, err := m.closure(names, optional)
	if err != nil {
		return nil, err
	}
	var order []string
	var add func(path string)
	add = func(path string) {
		if slices.Contains(order, path) {
			return
		}
		for _, need := range slices.Backward(m.needs[path]) { // modules.dep names what is needed last first
			add(need)
		}
		order = append(order, path)
	}
	for _, path := range paths {
		add(path)
	}
	return order, nil
}
