// Package uring is a Linux io_uring for one owner: it prepares operations in
// batches, waits for them in one system call and hands every completion to the
// value that asked for it. It is pure Go, uses no cgo and allocates nothing per
// operation.
//
//	owner's thread                                   any goroutine
//	--------------                                   -------------
//	Prep(op, completer, arg)  --> submission queue      Post(func)
//	Prep(...)                                          Signal.Raise
//	Wait(deadline)                                          |
//	  | one io_uring_enter: submit all, wait for one        v
//	  | reap: completer.Complete(arg, res, flags)  <-- eventfd, only when
//	  | run what was posted                            the owner sleeps
//	  v
//	returns how much was delivered
//
// # Ownership
//
// A Ring belongs to the OS thread that called New, because the kernel binds it to
// that thread (SINGLE_ISSUER, DEFER_TASKRUN). Lock the goroutine with
// runtime.LockOSThread before New and keep it locked until Close has returned. Only Post,
// Signal.Raise and the methods said to be safe may be called from elsewhere.
// Completers run on the owner's thread, inside Wait (or Close); they may prepare
// operations, and must not call Wait or Close.
//
// # Memory
//
// The kernel reads and writes the memory of an operation until its last
// completion. The ring keeps Go memory reachable for that long, so a []byte from make is
// safe; MapMemory gives page-aligned memory outside the Go heap, which direct I/O and registered
// buffers want.
//
// # Limits
//
// Linux 5.19 or newer, which New finds out by trying; the flags of newer kernels are left out one step at a time. An
// operation may not ask the kernel to skip its completion.
package uring
