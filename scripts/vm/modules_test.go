package vm

import (
	"slices"
	"testing"
)

func TestModuleClosure(t *testing.T) {
	index := parseModuleIndex(`kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko kernel/lib/other-thing.ko
kernel/lib/libcrc32c.ko:
kernel/lib/other-thing.ko:
kernel/drivers/md/dm-delay.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
`, "kernel/drivers/block/virtio_blk.ko\n")
	got, err := index.closure([]string{"xfs", "dm_delay", "virtio-blk", "gone"}, []string{"gone"})
	want := []string{"kernel/drivers/md/dm-delay.ko.xz", "kernel/drivers/md/dm-mod.ko.xz", "kernel/fs/xfs/xfs.ko", "kernel/lib/libcrc32c.ko", "kernel/lib/other-thing.ko"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := index.closure([]string{"gone"}, nil); err == nil {
		t.Error("a kernel without a module that is needed was accepted")
	}
}

// What a module needs is loaded before it, and the names of modules.dep come last needed first.
func TestLoadOrder(t *testing.T) {
	m := parseModuleIndex("k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/d.ko: k/a.ko k/b.ko k/c.ko\n", "")
	order, err := m.loadOrder([]string{"d"}, nil)
	if want := []string{"k/c.ko", "k/b.ko", "k/a.ko", "k/d.ko"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("%v, %v, want %v", order, err, want)
	}
}
