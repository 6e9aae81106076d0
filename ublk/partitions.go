package ublk

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FindPartitions has the kernel read the partition table of a started disk, so that its partitions are there on every kernel
// when it returns: with Config.NoPartitionScan nothing else looks for them. A disk that somebody has for himself alone is left
// as it is. It waits for the disk, which answers when its server does, and leaves the wait behind when ctx ends: so the server must
// never call it, whose end would then wait for its own disk.
func FindPartitions(ctx context.Context, path string) error {
	done := make(chan error, 1)
	go func() { done <- rereadPartitions(path) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: its partition table has not been read in time: %w", path, ctx.Err())
	}
}

func rereadPartitions(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	err = unix.IoctlSetInt(fd, unix.BLKRRPART, 0)
	if errors.Is(err, unix.EBUSY) {
		err = nil // a mount, a device on top, a partition in use: what is there is used already
	}
	if err != nil {
		err = fmt.Errorf("read the partition table of %s: %w", path, err)
	}
	return errors.Join(err, unix.Close(fd))
}
