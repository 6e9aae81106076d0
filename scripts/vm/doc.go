// Package vm boots virtual machines on stock Debian kernels, for tests and for
// people (scripts/rig). A test runs on this machine and drives the guests: it
// runs commands in them, pulls their cable, cuts their power, and reads their
// disks afterwards.
//
//	       this machine                             guests
//	+---------------------------+
//	| test, or rigctl           |   socket    +------------------+
//	|   Node alpha  - session --|-------------|- agent      eth0 |
//	|               - monitor --|---- QMP ----|  qemu          | |
//	|               - volatile -|---- NBD ----|- /dev/vda      | |
//	|                           |             +----------------|-+
//	|   Node beta   ...         |             +----------------|-+
//	|                           |-------------|- agent      eth0 |
//	+---------------------------+             +------------------+
//
// Kernels, QEMU and all programs of the guests are Debian packages, downloaded
// once into a cache (see Cache) and unpacked there; nothing is installed, and no
// package source is named here: the machine's own is copied for the suites needed.
// QEMU runs with the libraries it was unpacked with.
//
// A guest lives in memory: its root is an archive of busybox, the real tools, the kernel
// modules, the agent and Config.Files. What shall outlive a boot lies on a Disk. With Config.Init Systemd it is a Debian that
// systemd runs, on a root of its own that reboots keep; making that root, once a kernel, needs root.
// It has no network but its wires to other guests, and no way to this machine's files.
//
// # Bounds
//
// Nothing waits for ever. A boot ends after 80 seconds (in emulation it is tried
// twice, and the first failure logged), Run and its like after
// two minutes unless their context says otherwise, and a guest whose agent is
// unheard for 90 seconds is given up (ErrSilent). A QEMU process dies with the
// process that started it; Close removes what a node kept on this machine, and
// the next start what a killed process left.
//
// # Without hardware
//
// Where KVM runs stock kernels it is used. Elsewhere QEMU emulates: a boot takes
// 5 to 10 seconds on two idle cores, and everything in a guest some ten times as
// long as outside. Timeouts in tests must allow for that.
package vm
