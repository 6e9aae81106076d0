// Package sim runs two whole nodes in one thread, from one seed: the production
// engine, wire format, metadata, state machine and bitmap, over disks, a network and a clock
// that exist in memory only and misbehave at random.
//
//	       administrator        application         faults
//	  commands  |    requests        |     crashes, cuts, stalls, errors
//	            v                    v                  |
//	+---- node A: engine ----+   agenda of    +---- node B: engine ----+
//	|  disktest.Disk x volume|   events, by   |  disktest.Disk x volume|
//	+------------+-----------+  virtual time  +-----------+------------+
//	             '------ link: data and meta, both ways --'
//
// After every event the invariants are checked: who could fail now, and would
// somebody still know every block in which the disks differ? Do two disks that call themselves
// UpToDate hold the same? Every read is compared with what was written.
// At the end faults cease, the nodes are connected, and the disks must be identical.
//
// The same seed and the same code give the same run, to the byte.
//
// Beside the profile a seed has conditions, from random numbers of their own: clocks that do not go alike, daemons that stall,
// connections half open, peers that lie. Seeds that were found before there were any run without. With storms several troubles of one volume come at once, again and again.
//
// # Limits
//
// One peer, no verify, no growing of a device, no fencing, no suspended I/O; handshakes of
// sockets (features, secrets) belong to the shell and are not simulated.
package sim
