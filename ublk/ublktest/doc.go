// Package ublktest checks that a device made with package ublk behaves as a disk: for handlers that want to know whether
// they are right, and for kernels.
//
// Run takes a function that makes a device and drives the result through the block layer, with direct I/O, as applications
// do: geometry, reads and writes at all offsets and sizes, flush and FUA, discard and write-zeroes, error mapping,
// the full queue depth, stopping under load, deleting while open. Memory and File are the reference handlers.
//
// It needs root, Linux 6.8 or newer with ublk_drv, and a process of its own.
package ublktest
