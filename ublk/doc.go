// Package ublk makes block devices, /dev/ublkbN, that are answered by this process: the server's side of Linux ublk. It is
// pure Go on package uring and serves strangers: it knows nothing of what is behind the device.
//
//	application        write(2), fsync(2), a file system ...
//	                        |
//	   /dev/ublkb0     block layer, driver ublk_drv        kernel
//	................................|.........................................
//	                                | io_uring completion    this process
//	    ring's thread     Handler.Handle(*Request)  ---.
//	                                                   | at once, or later from
//	                      Request.Complete(err)     <--' completions of the same ring
//	                                |                (CompleteRemote from elsewhere)
//	                      COMMIT_AND_FETCH, all of one turn in one system call
//
// # Life
//
//	Create ----> added ---Serve, Start---> live ---Stop, TryStop---> added ---Delete--->
//	                                        |  ^
//	                 the process dies, or   |  | Recover, Serve, Start
//	                 Quiesce                v  |
//	                                       quiesced: the disk is there, requests wait
//
// Create asks for a number, a geometry and a Mode and fails when the kernel cannot do them. Serve puts the
// device on a ring that its owner brings, on the ring's thread (Prepare makes it short, from elsewhere before); the owner then waits on the ring and Start, from any other
// goroutine, makes the disk appear. Stop makes it go and leaves the device as Create did. A program without a ring calls
// ListenAndServe. Device.Failed tells the owner when the kernel refuses to go on. List, Clean and Remove deal with devices that were left behind.
//
// # Data
//
// In ModeCopy the kernel copies a request's data through a buffer that belongs to the request
// (Request.Bytes), is registered with the ring, and can be kept beyond the answer (Request.Keep). In ModeZeroCopy
// the application's pages themselves are in the ring's buffer table; Request.ReadOp and WriteOp make
// operations that work in both, and CopyOut and CopyIn move bytes in every mode.
//
// A request is answered once, for its whole length. What moves a part must go on; a failure is an error, and Errno
// turns it into what the application gets.
//
// # Recovery
//
// With RecoverReissue the disk survives its server: applications wait, and the next server that calls Recover gets every
// request that was not answered, those that the dead one had begun included. A write may therefore be executed twice.
//
// # Deadlocks
//
// The server is part of the kernel's write path while it is an ordinary process. What hangs, and what to do:
//
//   - Serving thread does not wait. START reads the partition table, STOP waits for requests in flight: both need the
//     ring's owner in uring.Ring.Wait and handlers that complete. Never call Start, Stop, TryStop, Delete or Quiesce
//     on the thread of a ring.
//   - Open descriptors at delete. The driver deletes a device only when nobody has /dev/ublkbN or /dev/ublkcN open or mapped, and Stop
//     needs that too. Pass a context with a deadline; the error is ErrBusy and another attempt can follow. Children
//     must not inherit descriptors (everything here is close-on-exec).
//   - The serving thread ends without closing its ring: all I/O, STOP and DELETE hang for ever. Close the ring in a deferred
//     function on the same thread; if that is impossible, end the process.
//   - I/O from the serving process to its own disk. A handler that reads or writes its own device, or a file on it, waits for itself. So
//     does a process that holds its working directory, its binary or its log on it, and one that unmounts it at exit: the last
//     unmount of a mount namespace flushes through the dying server. Do not share a private mount namespace with its users.
//   - Memory. A handler that allocates may make the kernel write dirty pages to the very disk that waits for it:
//     ProtectProcess, locked memory, direct I/O to the backing store, buffers made at the start. Do not swap to such a disk.
//   - Requests never time out. A backend that hangs holds its requests, and later STOP, for ever: a handler needs deadlines of its own.
//   - The driver's global lock. On some kernels a crash inside the driver leaves it taken, and no control command of the host returns any
//     more; after its context's end such a call gives ErrStuck.
//
// # Limits
//
// Linux 6.8 or newer, tested on 6.12 and 7.x. ErrTooOld refuses a driver that does not tell its features, which is one of
// before 6.5; no feature tells 6.8 from what lies between, so that is not refused and may work. Devices are privileged. Not
// served: zoned devices, integrity data, the batch commands, unprivileged devices, shared-memory zero copy. Source of the
// rules: docs/ublk.md.
package ublk
