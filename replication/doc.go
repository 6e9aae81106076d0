// Package replication is the shell of one replicated resource: it owns the
// thread, the ring, the disks, the two peer sockets and the timers, and does
// what the engine (replication/engine) says.
//
//	    control socket     connector      links       backing stores     block devices
//	    (HTTP + JSON)     listen, dial   (netlink)    open, lock, size   (Devices)
//	         |                 |            |               |                 |
//	         | Do, Status      | two fds    | address gone  | descriptors     | add, start, stop
//	         v                 v            v               v                 v
//	+------------------------- supervisor: ordinary goroutines -----------------------+
//	         | functions posted to the ring               ^ events of the engine
//	         v                                            |
//	+----------------------------- loop: one locked thread ---------------------------+
//	|   ring.Wait -> completions -> engine methods -> Drain -> disk I/O, sends, replies |
//	+---------------------------------------------------------------------------------+
//
// Everything that changes with I/O belongs to the loop's goroutine, which is
// locked to its OS thread and waits in one place. Everything slow or foreign
// is a goroutine of its own that posts what it found out. The loop never waits
// for one of them.
//
// # Limits
//
// One resource to a process, one peer to a resource, one process to a resource
// on a machine: a lock in the run directory holds the last one.
//
// Sources: docs/drbd-wire.md 4 to 6 (connecting), docs/drbd-metadata.md 1.7
// (exclusion), docs/drbd-cli.md 2.6 (status).
package replication
