package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
)

// testNet has short times: everything is on this machine.
func testNet() config.Net {
	n := config.DefaultNet()
	n.ConnectInterval = time.Second
	n.PingTimeout = 100 * time.Millisecond
	return n
}

// freePort finds a port that is free on both loopback addresses. It is below those that the kernel gives to whoever connects: until the test
// listens, nobody is given it.
func freePort(t testing.TB) uint16 {
	t.Helper()
	for range 1000 {
		port := uint16(10000 + rand.IntN(20000))
		if canListen("127.0.0.1", port) && canListen("127.0.0.2", port) {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func canListen(host string, port uint16) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func twoAddresses(t testing.TB) (a, b netip.AddrPort) {
	port := freePort(t)
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
}

func (c connected) closeAll() {
	unix.Close(c.data)
	unix.Close(c.meta)
}

// joined checks that two ends belong together, by sending through both sockets.
func joined(a, b connected) error {
	for i, pair := range [][2]int{{a.data, b.data}, {a.meta, b.meta}} {
		if _, err := unix.Write(pair[0], []byte{byte(i + 1)}); err != nil {
			return err
		}
		var got [1]byte
		if n, err := unix.Read(pair[1], got[:]); n != 1 || err != nil || got[0] != byte(i+1) {
			return fmt.Errorf("socket %d: read %d %v %v", i, n, got, err)
		}
	}
	if a.link.ResolveConflicts == b.link.ResolveConflicts {
		return fmt.Errorf("both nodes say RC %v", a.link.ResolveConflicts)
	}
	if a.link.Features != b.link.Features || a.link.Features != engine.Features {
		return fmt.Errorf("features %x and %x", a.link.Features, b.link.Features)
	}
	return nil
}

func TestConnectSimultaneously(t *testing.T) {
	const rounds = 150
	aAddr, bAddr := twoAddresses(t)
	slow := time.Duration(0)
	for round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		results := [2]connected{}
		errs := [2]error{}
		var ready, wg sync.WaitGroup
		ready.Add(2)
		began := time.Now()
		for i, at := range [2][2]netip.AddrPort{{aAddr, bAddr}, {bAddr, aAddr}} {
			wg.Go(func() {
				c := newConnector(at[0], at[1], testNet(), slog.New(slog.DiscardHandler))
				ready.Done()
				ready.Wait()
				results[i], errs[i] = c.run(ctx)
			})
		}
		wg.Wait()
		cancel()
		if errs[0] != nil || errs[1] != nil {
			t.Fatalf("round %d: %v, %v", round, errs[0], errs[1])
		}
		if err := joined(results[0], results[1]); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		slow = max(slow, time.Since(began))
		results[0].closeAll()
		results[1].closeAll()
	}
	t.Logf("%d rounds, the slowest took %v", rounds, slow)
}

func TestConnectOneComesLater(t *testing.T) {
	aAddr, bAddr := twoAddresses(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	first := make(chan connected, 1)
	waiting := newNotice()
	go func() {
		c, err := newConnector(aAddr, bAddr, testNet(), slog.New(waiting)).run(ctx)
		if err != nil {
			t.Error(err)
		}
		first <- c
	}()
	waiting.wait(t, "cannot be reached yet")
	b, err := newConnector(bAddr, aAddr, testNet(), slog.New(slog.DiscardHandler)).run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a := <-first
	defer a.closeAll()
	defer b.closeAll()
	if err := joined(a, b); err != nil {
		t.Fatal(err)
	}
}

// notice is a log handler that keeps what was logged, and tells who waits for it.
type notice struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed by the next record
}

func newNotice() *notice {
	return &notice{Handler: slog.DiscardHandler, more: make(chan struct{})}
}

func (n *notice) Enabled(context.Context, slog.Level) bool { return true }
func (n *notice) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n *notice) WithGroup(string) slog.Handler            { return n }
func (n *notice) Handle(_ context.Context, r slog.Record) error {
	line := r.Time.Format("15:04:05.000") + " " + r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
	close(n.more)
	n.more = make(chan struct{})
	return nil
}

// wait returns when a record with the text has been logged.
func (n *notice) wait(t testing.TB, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		n.mu.Lock()
		more := n.more
		n.mu.Unlock()
		if n.count(text) > 0 {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q was never logged", text)
		}
	}
}

// all is every record so far, a line each.
func (n *notice) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lines)
}

func (n *notice) count(text string) (c int) {
	for _, l := range n.all() {
		if strings.Contains(l, text) {
			c++
		}
	}
	return c
}

func TestConnectGarbage(t *testing.T) {
	aAddr, bAddr := twoAddresses(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	log := newNotice()
	first := make(chan connected, 1)
	go func() {
		c, err := newConnector(aAddr, bAddr, testNet(), slog.New(log)).run(ctx)
		if err != nil {
			t.Error(err)
		}
		first <- c
	}()
	junk := [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 1<<16),
		wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: 72}),
		{0x83, 0x74},
	}
	for round := range 10 {
		for i, j := range junk {
			if round > 0 && i == len(junk)-1 {
				continue // half a packet costs the whole waiting time: once is enough
			}
			conn := dialFrom(t, ctx, bAddr.Addr(), aAddr)
			conn.Write(j)
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
				t.Fatalf("%q was not shown the door: %d %v", j[:2], n, err)
			}
			conn.Close()
		}
	}
	log.wait(t, "no DRBD peer")
	if n := log.count("no DRBD peer"); n != 1 {
		t.Errorf("the same stranger was logged %d times", n)
	}
	b, err := newConnector(bAddr, aAddr, testNet(), slog.New(slog.DiscardHandler)).run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a := <-first
	defer a.closeAll()
	defer b.closeAll()
	if err := joined(a, b); err != nil {
		t.Fatal(err)
	}
}

// dialFrom connects as a stranger does, as soon as somebody listens.
func dialFrom(t *testing.T, ctx context.Context, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	for {
		conn, err := d.DialContext(ctx, "tcp", to.String())
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			t.Fatalf("nobody listens on %v: %v", to, err)
		}
	}
}

func TestConnectStrangersAddress(t *testing.T) {
	aAddr, bAddr := twoAddresses(t)
	ctx, cancel := context.WithCancel(t.Context())
	log := newNotice()
	ended := make(chan error, 1)
	go func() {
		_, err := newConnector(aAddr, bAddr, testNet(), slog.New(log)).run(ctx)
		ended <- err
	}()
	conn := dialFrom(t, ctx, netip.MustParseAddr("127.0.0.9"), aAddr)
	defer conn.Close()
	conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}))
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("not closed: %v", err)
	}
	log.wait(t, "not the peer's")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestConnectAuthentication(t *testing.T) {
	with := func(alg, secret string) config.Net {
		n := testNet()
		n.CRAMHMACAlg, n.SharedSecret = alg, config.Secret(secret)
		return n
	}
	type meeting struct {
		name  string
		a, b  config.Net
		fault string // what at least one says of the other; empty: they meet
	}
	meetings := []meeting{
		{"another secret", with("sha256", "x"), with("sha256", "y"), "shared-secret differs"},
		{"another algorithm", with("sha256", "x"), with("sha1", "x"), "cram-hmac-alg differs"},
	}
	for _, alg := range wire.DigestNames() {
		if d, _ := wire.DigestByName(alg); d.Authenticates() {
			meetings = append(meetings, meeting{alg, with(alg, "x"), with(alg, "x"), ""})
		}
	}
	for _, tt := range meetings {
		t.Run(tt.name, func(t *testing.T) {
			aAddr, bAddr := twoAddresses(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			log := newNotice()
			type end struct {
				c   connected
				err error
			}
			ends := make(chan end, 2)
			for i, at := range [2][2]netip.AddrPort{{aAddr, bAddr}, {bAddr, aAddr}} {
				go func() {
					c, err := newConnector(at[0], at[1], []config.Net{tt.a, tt.b}[i], slog.New(log)).run(ctx)
					ends <- end{c, err}
				}()
			}
			if tt.fault != "" {
				log.wait(t, tt.fault)
				cancel()
				for range 2 {
					if e := <-ends; !errors.Is(e.err, context.Canceled) {
						t.Errorf("ended with %v", e.err)
					}
				}
				return
			}
			a, b := <-ends, <-ends
			if a.err != nil || b.err != nil {
				t.Fatal(a.err, b.err)
			}
			if err := err2(a.c, b.c); err != nil {
				t.Error(err)
			}
		})
	}
}

func err2(a, b connected) error {
	defer a.closeAll()
	defer b.closeAll()
	return joined(a, b)
}
