// Package uapi is the binary contract of the Linux ublk driver: command numbers, structures, positions in its files. It
// decides nothing; sectors live here and nowhere above.
//
// Structures are little-endian on every architecture this project runs on and are laid out by Go's own
// rules, which agree with C's here; the test asserts every size and offset.
//
// Source: include/uapi/linux/ublk_cmd.h; docs/ublk.md 1.
package uapi
