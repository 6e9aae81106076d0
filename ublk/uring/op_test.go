package uring

import (
	"bytes"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func noise(n int) []byte {
	p := make([]byte, n)
	rand.New(rand.NewSource(1)).Read(p)
	return p
}

func TestFileOperations(t *testing.T) {
	each(t, Config{Files: 4, Buffers: 4}, func(t *testing.T, r *Ring) {
		f := tempFile(t)
		fd := FD(int(f.Fd()))
		slot, err := r.AddFile(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		data := noise(64 << 10)
		got := make([]byte, len(data))

		want(t, "write", do(t, r, Write(fd, data, 4096)), int32(len(data)))
		want(t, "read through the table", do(t, r, Read(slot, got, 4096)), int32(len(data)))
		if !bytes.Equal(got, data) {
			t.Fatal("other bytes read than written")
		}
		sync := Write(slot, data[:512], 0)
		sync.OpFlags = WriteDSync
		want(t, "write with dsync", do(t, r, sync), 512)
		want(t, "fsync", do(t, r, Fsync(slot, false)), 0)
		want(t, "fdatasync", do(t, r, Fsync(fd, true)), 0)
		want(t, "read at the end", do(t, r, Read(fd, got, 1<<30)), 0)

		clear(got)
		vec := func(p []byte) []unix.Iovec {
			return []unix.Iovec{{Base: &p[0], Len: 1000}, {Base: &p[1000], Len: uint64(len(p) - 1000)}}
		}
		want(t, "writev", do(t, r, Writev(fd, vec(data), 0)), int32(len(data)))
		want(t, "readv", do(t, r, Readv(fd, vec(got), 0)), int32(len(data)))
		if !bytes.Equal(got, data) {
			t.Fatal("vectors: other bytes read than written")
		}
		want(t, "fallocate", do(t, r, Fallocate(fd, 0, 0, 1<<20)), 0)
		if st, err := f.Stat(); err != nil || st.Size() != 1<<20 {
			t.Fatalf("fallocate made %v, %v", st.Size(), err)
		}
		want(t, "bad descriptor", do(t, r, Read(FD(-1), got, 0)), -int32(unix.EBADF))
		want(t, "nop", do(t, r, Nop()), 0)
		if err := r.RemoveFile(slot); err != nil {
			t.Fatal(err)
		}
		if slot.fixed {
			want(t, "removed file", do(t, r, Read(slot, got, 0)), -int32(unix.EBADF))
		}
	})
}

// TestRemovedFileIsClosed removes a file while an operation on another one waits, and goes on waiting.
func TestRemovedFileIsClosed(t *testing.T) {
	each(t, Config{Files: 2}, func(t *testing.T, r *Ring) {
		waits, _ := socketPair(t)
		idle, err := r.AddFile(waits)
		if err != nil {
			t.Fatal(err)
		}
		var never result
		r.Prep(Recv(idle, make([]byte, 1), 0), &never, 0)
		r.Submit()
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		end, err := r.AddFile(pipe[1])
		if err != nil {
			t.Fatal(err)
		}
		want(t, "write", do(t, r, Write(end, []byte{1}, 0)), 1)
		if err := r.RemoveFile(end); err != nil {
			t.Fatal(err)
		}
		unix.Close(pipe[1])
		var got, hangup result
		r.Prep(Read(FD(pipe[0]), make([]byte, 1), 0), &got, 0)
		await(t, r, func() bool { return got.n > 0 })
		r.Prep(Read(FD(pipe[0]), make([]byte, 1), 0), &hangup, 0)
		await(t, r, func() bool { return hangup.n > 0 })
		want(t, "the end of what was written", hangup.res, 0)
		if never.n > 0 {
			t.Errorf("the operation that waits has ended with %d", never.res)
		}
	})
}

func TestRegisteredBuffer(t *testing.T) {
	each(t, Config{Files: 1, Buffers: 2}, func(t *testing.T, r *Ring) {
		mem, err := MapMemory(64 << 10)
		if err != nil {
			t.Fatal(err)
		}
		defer UnmapMemory(mem)
		buf, err := r.AddBuffer(mem)
		if err != nil {
			t.Fatal(err)
		}
		fd := FD(int(tempFile(t).Fd()))
		copy(mem, noise(8192))
		want(t, "write", do(t, r, WriteFixed(fd, buf, mem[:8192], 0)), 8192)
		want(t, "read", do(t, r, ReadFixed(fd, buf, mem[8192:16384], 0)), 8192)
		if !bytes.Equal(mem[:8192], mem[8192:16384]) {
			t.Fatal("other bytes read than written")
		}
		want(t, "outside the buffer", do(t, r, ReadFixed(fd, buf, make([]byte, 512), 0)), -int32(unix.EFAULT))
		if err := r.RemoveBuffer(buf); err != nil {
			t.Fatal(err)
		}
		want(t, "removed buffer", do(t, r, ReadFixed(fd, buf, mem[:512], 0)), -int32(unix.EFAULT))
		if first, err := r.ReserveBuffers(2); err != nil || first != 0 {
			t.Fatal(first, err)
		}
		if _, err := r.AddBuffer(mem); err == nil {
			t.Fatal("a full table takes another buffer")
		}
		r.ReleaseBuffers(0, 2)
	})
}

func socketPair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// A send with MSG_WAITALL larger than the socket's buffer completes once, with everything.
func TestSendIsNeverShort(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		a, b := socketPair(t)
		data := noise(4 << 20)
		got := make([]byte, len(data))
		var sent, received result
		r.Prep(Send(FD(a), data, unix.MSG_WAITALL), &sent, 0)
		r.Prep(Recv(FD(b), got, unix.MSG_WAITALL), &received, 0)
		await(t, r, func() bool { return sent.n > 0 && received.n > 0 })
		want(t, "send", sent.res, int32(len(data)))
		want(t, "recv", received.res, int32(len(data)))
		if !bytes.Equal(got, data) {
			t.Fatal("other bytes received than sent")
		}

		sent, received = result{}, result{}
		clear(got)
		msg := func(p []byte) *unix.Msghdr {
			iov := []unix.Iovec{{Base: &p[0], Len: 16}, {Base: &p[16], Len: uint64(len(p) - 16)}}
			return &unix.Msghdr{Iov: &iov[0], Iovlen: 2}
		}
		r.Prep(Sendmsg(FD(a), msg(data), unix.MSG_WAITALL), &sent, 0)
		r.Prep(Recvmsg(FD(b), msg(got), unix.MSG_WAITALL), &received, 0)
		await(t, r, func() bool { return sent.n > 0 && received.n > 0 })
		want(t, "sendmsg", sent.res, int32(len(data)))
		want(t, "recvmsg", received.res, int32(len(data)))
		if !bytes.Equal(got, data) {
			t.Fatal("vectors: other bytes received than sent")
		}
		unix.Shutdown(b, unix.SHUT_RDWR)
		want(t, "send to a closed peer", do(t, r, Send(FD(a), data, 0)), -int32(unix.EPIPE))
		want(t, "recv at the end", do(t, r, Recv(FD(a), got, 0)), 0)
	})
}

func TestAcceptConnect(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		listen := func() int {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			return fd
		}
		l, c := listen(), listen()
		if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(l, 1); err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(l)
		if err != nil {
			t.Fatal(err)
		}
		port := sa.(*unix.SockaddrInet4).Port
		raw := &unix.RawSockaddrAny{Addr: unix.RawSockaddr{Family: unix.AF_INET}}
		raw.Addr.Data[0], raw.Addr.Data[1] = int8(port>>8), int8(port)
		raw.Addr.Data[2], raw.Addr.Data[5] = 127, 1
		var accepted, connected result
		r.Prep(Accept(FD(l), unix.SOCK_CLOEXEC), &accepted, 0)
		r.Prep(Connect(FD(c), raw, unix.SizeofSockaddrInet4), &connected, 0)
		await(t, r, func() bool { return accepted.n > 0 && connected.n > 0 })
		want(t, "connect", connected.res, 0)
		if accepted.res < 0 {
			t.Fatal(unix.Errno(-accepted.res))
		}
		defer unix.Close(int(accepted.res))
		want(t, "shutdown", do(t, r, Shutdown(FD(c), unix.SHUT_WR)), 0)
		want(t, "recv at the end", do(t, r, Recv(FD(int(accepted.res)), make([]byte, 1), 0)), 0)
	})
}

func TestPoll(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		a, b := socketPair(t)
		var once, many result
		r.Prep(Poll(FD(a), unix.POLLIN, false), &once, 0)
		r.Prep(Poll(FD(a), unix.POLLIN, true), &many, 0)
		for i := range 3 {
			unix.Write(b, []byte{1})
			await(t, r, func() bool { return many.n > i })
			if many.flags&More == 0 {
				t.Fatal("a multishot poll has ended")
			}
		}
		if once.n != 1 || once.res&unix.POLLIN == 0 {
			t.Fatalf("poll: %+v", once)
		}
	})
}

func TestTimeout(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		start := time.Now()
		var short, long result
		r.Prep(Timeout(30*time.Millisecond), &short, 7)
		r.Prep(Timeout(time.Hour), &long, 8)
		await(t, r, func() bool { return short.n > 0 })
		want(t, "timeout", short.res, -int32(unix.ETIME))
		if d := time.Since(start); d < 30*time.Millisecond || short.arg != 7 || long.n != 0 {
			t.Fatalf("after %v: %+v %+v", d, short, long)
		}
	})
}

// A link starts its second half only when the first has succeeded.
func TestLink(t *testing.T) {
	each(t, Config{Entries: 4}, func(t *testing.T, r *Ring) {
		a, b := socketPair(t)
		var first, second result
		for range 3 {
			r.Prep(Nop(), nil, 0)
		}
		r.Reserve(2)
		if r.Room() < 2 {
			t.Fatal("no room after Reserve")
		}
		op := Send(FD(a), []byte("ab"), unix.MSG_WAITALL)
		op.Flags |= Link
		r.Prep(op, &first, 0)
		r.Prep(Send(FD(a), []byte("cd"), unix.MSG_WAITALL), &second, 0)
		await(t, r, func() bool { return first.n > 0 && second.n > 0 })
		got := make([]byte, 4)
		if n, err := unix.Read(b, got); n != 4 || string(got) != "abcd" {
			t.Fatalf("%q %v", got, err)
		}
		op = Read(FD(-1), got, 0)
		op.Flags |= Link
		first, second = result{}, result{}
		r.Prep(op, &first, 0)
		r.Prep(Nop(), &second, 0)
		await(t, r, func() bool { return first.n > 0 && second.n > 0 })
		want(t, "second of a broken link", second.res, -int32(unix.ECANCELED))
	})
}

// Discard of something that is no block device is refused by an errno, not by a hang.
func TestDiscardIsRefused(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		want(t, "discard", do(t, r, Discard(FD(int(tempFile(t).Fd())), 0, 4096)), -int32(unix.EOPNOTSUPP))
	})
}
