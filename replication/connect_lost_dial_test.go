package replication

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/wire"
)

// A node's first packet to its peer is lost, so that its dial hangs, and the peer has dialled the data socket meanwhile: the node dials the meta socket
// at once. The kernel sends the lost packet again after a second, and what comes to the peer then has to be the meta socket, or an end before it.
func TestConnectWhileADialHangs(t *testing.T) {
	nodeAddr, peerAddr := twoAddresses(t)
	listener, full := deafListener(t, peerAddr)
	c := newConnector(nodeAddr, peerAddr, testNet(), slog.New(slog.DiscardHandler))
	c.opt.ConnectInterval = 10 * time.Second
	go c.run(t.Context())
	first := dials(t, peerAddr, "")
	data := dialFrom(t, t.Context(), peerAddr.Addr(), nodeAddr)
	defer data.Close()
	data.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}))
	dials(t, peerAddr, first)
	for _, conn := range full {
		conn.Close()
	}
	for {
		fd, _, err := unix.Accept(listener)
		if err != nil {
			t.Fatal(err)
		}
		conn := os.NewFile(uintptr(fd), "accepted")
		b := make([]byte, wire.HeaderLen80)
		_, err = io.ReadFull(conn, b)
		conn.Close()
		if err != nil {
			continue // one of those that were in its way
		}
		if h, err := wire.DecodeHeader80(b); err != nil || h.Cmd != wire.CmdInitialMeta {
			t.Fatalf("%v, %v: want P_INITIAL_META", h.Cmd, err)
		}
		return
	}
}

// deafListener listens and has no room for another connection: whoever dials hangs. The connections that fill it are returned.
func deafListener(t *testing.T, at netip.AddrPort) (fd int, full []net.Conn) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", at.String(), 300*time.Millisecond)
		if err != nil {
			return fd, full
		}
		full = append(full, conn)
	}
}

// dials waits for a socket that waits for an answer of an address, and is another one than before. It returns its local address.
func dials(t *testing.T, to netip.AddrPort, before string) string {
	t.Helper()
	ip := to.Addr().As4()
	want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), to.Port())
	const synSent = "02"
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		b, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 3 && f[2] == want && f[3] == synSent && f[1] != before {
				return f[1]
			}
		}
	}
	t.Fatalf("nobody dials %v but %s", to, before)
	return ""
}
