// Package disktest has disks that live in memory and misbehave as real ones do:
// they cache, lose power, tear writes and fail.
//
// A disk takes the I/Os of an engine, [engine.DiskIO], and decides only what
// each does to its content; when an I/O ends is the caller's affair:
//
//	          Start             Finish                  flush, or FUA
//	DiskIO  --------> flight ----------> volatile cache ------------> medium
//	                     |                     |                        |
//	PowerCut        any sectors           any sectors               stays
//
// Between Start and Finish nothing has happened for a reader, and everything
// may have happened for a power cut: each sector of 512 bytes by itself. A
// flush makes durable what was finished when it was started.
//
// Limits: content is kept by pages of 4096 bytes that are not zero, so large
// disks are cheap as long as they are empty. A Disk has one owner; the same calls
// and the same random source give the same content.
package disktest
