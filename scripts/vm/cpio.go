package vm

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// A cpioWriter writes the "newc" archive that the kernel unpacks as its first
// root file system. Every header is 110 bytes of ASCII hex; names and contents are padded to
// four bytes. Missing parent directories are added. Closing writes the trailer
// and pads to 512, so that archives can be laid end to end.
//
// Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
type cpioWriter struct {
	w     io.Writer
	off   int64
	inode uint32
	seen  map[string]bool
}

func newCpioWriter(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, seen: map[string]bool{"": true, ".": true}}
}

const (
	cpioDir     = 0o040000
	cpioFile    = 0o100000
	cpioSymlink = 0o120000
)

// has reports whether the archive holds name already.
func (c *cpioWriter) has(name string) bool { return c.seen[path.Clean(strings.Trim(name, "/"))] }

func (c *cpioWriter) dir(name string, perm fs.FileMode) error {
	return c.entry(name, cpioDir|modeBits(perm), 0, nil)
}

func (c *cpioWriter) symlink(name, target string) error {
	return c.entry(name, cpioSymlink|0o777, int64(len(target)), strings.NewReader(target))
}

func (c *cpioWriter) bytes(name string, perm fs.FileMode, data string) error {
	return c.entry(name, cpioFile|modeBits(perm), int64(len(data)), strings.NewReader(data))
}

// copyFile adds a regular file of this machine, following symbolic links.
func (c *cpioWriter) copyFile(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", from)
	}
	return c.entry(name, cpioFile|modeBits(info.Mode()), info.Size(), f)
}

func modeBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// entry writes one member with exactly size bytes of data. A second member of
// the same name is an error for files and ignored for directories.
func (c *cpioWriter) entry(name string, mode uint32, size int64, data io.Reader) error {
	name = path.Clean(strings.Trim(name, "/"))
	if c.seen[name] {
		if mode&0o170000 == cpioDir {
			return nil
		}
		return fmt.Errorf("two files named %s", name)
	}
	if parent := path.Dir(name); !c.seen[parent] {
		if err := c.dir(parent, 0o755); err != nil {
			return err
		}
	}
	if size >= 1<<32 {
		return fmt.Errorf("%s: %d bytes are too many for a cpio member", name, size)
	}
	c.seen[name] = true
	c.inode++
	return c.member(name, c.inode, mode, size, data)
}

func (c *cpioWriter) member(name string, inode, mode uint32, size int64, data io.Reader) error {
	// magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0)
	if err := c.write(strings.NewReader(header+name+"\x00"), int64(len(header)+len(name)+1)); err != nil {
		return err
	}
	if err := c.pad(4); err != nil || size == 0 {
		return err
	}
	if err := c.write(data, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.pad(4)
}

func (c *cpioWriter) write(r io.Reader, n int64) error {
	done, err := io.CopyN(c.w, r, n)
	c.off += done
	return err
}

func (c *cpioWriter) pad(to int64) error {
	n := (to - c.off%to) % to
	return c.write(strings.NewReader(strings.Repeat("\x00", int(n))), n)
}

// Close ends the archive. It does not close the writer below.
func (c *cpioWriter) Close() error {
	if err := c.member("TRAILER!!!", 0, 0, 0, nil); err != nil {
		return err
	}
	return c.pad(512)
}
