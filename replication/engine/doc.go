// Package engine decides what one replicated resource does: which request goes
// to which disk and which peer, in what order, and when it is complete. It runs
// the activity log, the epochs, the bitmap exchange, the resync and the
// generation identifiers, and it speaks the wire protocol byte for byte.
//
// It does nothing itself. Time, bytes and completions come in by method calls;
// what is to be done goes out through [Engine.Drain] and the send queues:
//
//	 requests        commands, connections      bytes of the peer     disk completions
//	Submit(*Request)  Command, ConnUp, ConnDown  Receive/PayloadSpace  DiskDone
//	      |                     |                        |                 |
//	      v                     v                        v                 v
//	+--------------------------- one Engine, one owner -------------------------+
//	|  gate -> activity log -> overlap -> disk + peer -> acks -> epoch -> done  |
//	+---------------------------------------------------------------------------+
//	      |                     |                        |                 |
//	      v                     v                        v                 v
//	Output.Done          Output.Events            NextSend / Sent     Output.Disk
//
// Every method takes the current time, never blocks, and does a bounded amount
// of work; what is left over goes on at the next [Engine.Tick]. The same calls
// with the same arguments give the same outputs: the production shell
// (package replication) and the simulator (replication/sim) drive the same code.
//
// # Rules of use
//
// One goroutine owns an Engine. After every batch of calls the owner drains:
// it carries out Output in the order of each list, and starts a send on each
// socket that has something queued and no send in flight. The owner never calls
// back into the engine while it walks an Output.
//
// # Limits
//
// 64 volumes to a resource; requests of at most 1 MiB (discards 128 MiB); one
// peer. Source of the protocol: docs/drbd-wire.md; of the metadata:
// docs/drbd-metadata.md.
package engine
