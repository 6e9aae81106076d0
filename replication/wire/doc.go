// Package wire turns the packets of the DRBD replication protocol into bytes
// and back. It speaks one dialect: version 101, the last of the 8.4 family.
//
// A connection is two TCP streams. Both carry a header, then the fixed part of
// the packet, then for some packets a payload:
//
//	+--------+------------------+----------+------------------------+
//	| header | fixed part       | digest   | payload                |
//	| 8 | 16 | Cmd.Fixed() bytes| 0..64    | block, bitmap, name    |
//	+--------+------------------+----------+------------------------+
//	         |<-------------- Header.Length ----------------------->|
//
//	data socket   requests, blocks, bitmaps, states, parameters
//	meta socket   every acknowledgement and every answer; pings
//
// The three handshake packets (P_INITIAL_DATA, P_INITIAL_META,
// P_CONNECTION_FEATURES) have the 8 byte header, everything after them has the
// 16 byte one, on both sockets.
//
// The package decides what bytes mean and which bytes are refused, nothing
// else: which packet is due, and what a refusal costs, is the engine's matter.
// Nothing here reads, waits or keeps state. Every length is checked against a
// constant before it is believed. Numbers are big-endian unless a comment says
// otherwise; positions are 512-byte sectors on the wire, and Offset methods give
// bytes.
//
// Source: docs/drbd-wire.md.
package wire
