// Package wiretest reads recorded conversations of two DRBD nodes, so that
// tests can check a codec against real bytes or play one side of a recording
// to an implementation.
//
//	pcap bytes -> records -> TCP segments -> byte streams -> packets
//	                    \--> marks of the recording script
//
// The recordings are what replication/wire/testdata/README.md describes: two
// nodes that listen on ports 7001 (A) and 7002 (B), and UDP datagrams to port
// 7999 that say in words what happens. A recording is held in memory whole;
// nothing here opens a file or a socket.
package wiretest
