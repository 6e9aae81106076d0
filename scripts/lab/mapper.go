package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/urbd/urbd/scripts/vm"
)

// Mapped is the backing disk of a volume in a lab with [Options.Mapper].
func Mapped(vol int) string { return fmt.Sprintf("/dev/mapper/backing%d", vol) }

// backing is the disk below a volume, as the configuration names it.
func (l *Lab) backing(vol int) string {
	switch {
	case l.Options.Mapper:
		return Mapped(vol)
	case vol < len(l.Options.Backing) && l.Options.Backing[vol] != "":
		return l.Options.Backing[vol]
	}
	return fmt.Sprintf("/dev/vd%c", 'a'+vol)
}

// mapDisks makes the mapped disks of a node that has just booted: they pass everything on.
func (l *Lab) mapDisks(ctx context.Context, n *vm.Node) error {
	if !l.Options.Mapper {
		return nil
	}
	for v := range l.Options.Volumes {
		script := fmt.Sprintf(`set -e; modprobe -a dm-mod dm-flakey dm-log-writes
[ -e %[1]s ] || { dmsetup create %[2]s --noudevsync --table "0 $(blockdev --getsz /dev/vd%[3]c) linear /dev/vd%[3]c 0"; [ -e %[1]s ] || dmsetup mknodes; }`,
			Mapped(v), filepath.Base(Mapped(v)), 'a'+v)
		if _, err := n.Sh(ctx, script); err != nil {
			return err
		}
	}
	return nil
}

// Remap changes what a mapped disk does: the rest of a table's line after its size, with %s for the disk below. What is in flight
// ends first, and nothing gets in between.
func (l *Lab) Remap(ctx context.Context, n *vm.Node, vol int, target string) error {
	disk := fmt.Sprintf("/dev/vd%c", 'a'+vol)
	_, err := n.Sh(ctx, fmt.Sprintf(`set -e; dmsetup load %[1]s --table "0 $(blockdev --getsz %[2]s) %[3]s"
dmsetup suspend --nolockfs %[1]s; dmsetup resume --noudevsync %[1]s`, filepath.Base(Mapped(vol)), disk, fmt.Sprintf(target, disk)))
	return err
}

// ExtraDisk is the further disk of a node ([Options.Extra]), as the guest names it.
func (l *Lab) ExtraDisk() string {
	n := l.Options.Volumes
	if l.Options.External {
		n++
	}
	return fmt.Sprintf("/dev/vd%c", 'a'+n)
}

// ExtraPath is the file behind it.
func (l *Lab) ExtraPath(n *vm.Node) string { return filepath.Join(l.dir, n.Name()+"-extra") }
