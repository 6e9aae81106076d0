// Command urbd is the tool and the daemon of replicated block devices: the verbs of drbdadm, and "urbd run RES",
// the process that serves one resource.
//
//	 verbs                                 daemon
//	urbd up RES ---- starts ----------> urbd run RES ----> package replication (loop, disks, peer)
//	urbd primary, status, ... --------> control socket           |
//	     (replication.Client)           RUNDIR/RES.sock          v
//	urbd create-md, dump-md, ...                           ublkDevices (device.go) ----> package ublk
//	     (replication's offline half)
//
// What is decided here: which words a person may type (arrange, targets), where the configuration comes from, what is
// printed (status, JSON, progress), which exit code a failure gets (exit.go), how a daemon is started
// (spawn.go, systemd.go), and how a block device gets its names. Everything else is the packages' business.
//
// Signals: the first SIGINT or SIGTERM ends a verb, and a daemon in order; the second ends what does not end by itself. A
// daemon ignores SIGHUP.
//
// Sources: docs/drbd-cli.md 2 (verbs, exit codes, layouts), docs/drbd-metadata.md 10 (text formats).
package main
