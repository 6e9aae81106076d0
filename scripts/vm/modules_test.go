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
