package replication

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// CreateOptions are the choices of CreateMD.
type CreateOptions struct {
	Force bool // overwrite metadata or data that is found there
}

// A FoundError says that CreateMD found something worth asking about. With
// CreateOptions.Force it goes on.
type FoundError struct {
	Device string
	What   string // "metadata of DRBD 8.4", "an ext file system of 1073741824 bytes"
	Loss   string // what going on does to it: "it will be overwritten"
}

func (e *FoundError) Error() string {
	return fmt.Sprintf("%s holds %s; %s; --force does not ask", e.Device, e.What, e.Loss)
}

// An UnfitError says that a device has no room for metadata, which --force
// does not change.
type UnfitError struct {
	Device string
	Reason string // with the least size, or with what stands in the way and what to do about it
}

func (e *UnfitError) Error() string { return e.Device + ": " + e.Reason }

// CreateMD writes fresh metadata for v, whose device must not be in use. It
// refuses with a *FoundError when the device that the metadata goes to holds
// metadata or data, and with an *UnfitError when it is too small or a file
// system reaches into the place of internal metadata.
// Source: docs/drbd-metadata.md 1.5.
func CreateMD(v *config.Volume, opt CreateOptions) error {
	o, err := openOffline(v)
	if err != nil {
		return err
	}
	defer o.close()
	k, index := kind(v)
	l, err := metadata.Place(k, index, o.backing.data.size, o.meta.size)
	if small := new(metadata.Error); errors.As(err, &small) {
		return &UnfitError{o.meta.path, small.Error()}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.meta.path, err)
	}
	if err := o.mayCreate(l, opt.Force); err != nil {
		return err
	}
	return o.writeAll(l, l.Create(metadata.New(l, rand.Uint64())))
}

// mayCreate looks for what CreateMD would destroy: on the device that the
// metadata goes to, since nothing on another one is touched.
func (o *offline) mayCreate(l metadata.Layout, force bool) error {
	content, err := o.content(l)
	if err != nil {
		return err
	}
	if content != nil && l.Kind == metadata.Internal && content.size > l.DataLimit {
		return &UnfitError{o.meta.path, fmt.Sprintf("it holds %s, internal metadata leaves it %d: shrink the file system first, enlarge the device, "+
			"use an external meta-disk, or, if nothing in it is needed: wipefs --all %s", content, l.DataLimit, o.meta.path)}
	}
	if force {
		return nil
	}
	block, err := o.read(l.Superblock, metadata.BlockSize)
	if err != nil {
		return err
	}
	if format := metadata.Format(block); format != "" {
		return &FoundError{o.meta.path, "metadata of " + format + generation(block), "it will be overwritten"}
	}
	if content != nil {
		return &FoundError{o.meta.path, content.String(), loss(l, content)}
	}
	return nil
}

// generation tells metadata that can be read from another's, by its current generation.
func generation(block []byte) string {
	sb, err := metadata.DecodeSuperblock(block)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (current generation %016X)", sb.Current)
}

// loss says what the metadata of l does to content.
func loss(l metadata.Layout, content *found) string {
	switch {
	case l.Kind != metadata.Internal:
		return fmt.Sprintf("%d bytes of the device from %d on will be overwritten", l.MDSize, l.Superblock)
	case content.size > 0:
		return fmt.Sprintf("the metadata goes behind it, to %d", l.DataLimit)
	}
	return fmt.Sprintf("the device from %d on will be overwritten, its last %d bytes", l.DataLimit, l.MDSize)
}
