package ublk_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// ramDisk is an ordinary Go value with blocking methods.
type ramDisk struct {
	mu   sync.RWMutex
	data []byte
}

func (d *ramDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := copy(p, d.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *ramDisk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(d.data[off:], p), nil
}

// A disk over io.ReaderAt and io.WriterAt: the blocking adapter runs them on goroutines of its own.
func Example_memory() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dev, err := ublk.Create(ctx, ublk.Config{ID: ublk.AnyID, Geometry: ublk.Geometry{Size: 8 << 20}})
	if err != nil {
		log.Fatal(err)
	}
	adapter := ublk.NewBlocking(&ramDisk{data: make([]byte, 8<<20)}, 4)
	defer adapter.Close()
	srv, err := ublk.ListenAndServe(ctx, dev, func(int, *uring.Ring) (ublk.Handler, error) { return adapter, nil })
	if err != nil {
		log.Fatal(err)
	}
	if err := useDisk(dev.Path()); err != nil {
		log.Fatal(err)
	}
	if err := srv.Close(ctx); err != nil {
		log.Fatal(err)
	}
	if err := dev.Delete(ctx); err != nil {
		log.Fatal(err)
	}
}

// useDisk does what any program does with a disk. It must close it before the device is stopped.
func useDisk(path string) error {
	disk, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	if _, err := disk.WriteAt([]byte("hello"), 12345); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := disk.ReadAt(got, 12345); err != nil {
		return err
	}
	fmt.Printf("read back: %s\n", got)
	return nil
}
