package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// Bounds of what strangers can make us do.
const (
	maxGreeting  = 32              // inbound sockets whose first packet is awaited
	strangers    = 64              // addresses remembered for the log
	complainLess = 1 * time.Minute // between two log lines about the same address
)

// inbound accepts connections and reads their first packets. Whatever comes
// that is no peer is closed within the greeting time and logged once per
// address and minute; the listener goes on.
type inbound struct {
	listener *net.TCPListener
	peer     netip.Addr    // the only address that is let in
	within   time.Duration // for the first packet
	log      *slog.Logger
	seen     *complaints
	deliver  func(wire.Cmd, *peerSocket) bool // false: nobody wants it any more

	wg sync.WaitGroup
}

// serve runs until the listener is closed; then it waits for what it has started.
func (in *inbound) serve(ctx context.Context) {
	greeting := make(chan struct{}, maxGreeting)
	defer in.wg.Wait()
	for {
		conn, err := in.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors or memory: the next one may do better
			in.seen.complain(in.log, netip.Addr{}, "cannot accept a connection", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case greeting <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		in.wg.Add(1)
		go func() {
			defer in.wg.Done()
			defer func() { <-greeting }()
			stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
			defer stop()
			in.greet(conn)
		}()
	}
}

// greet reads the first packet and hands the socket on, or closes it.
func (in *inbound) greet(conn *net.TCPConn) {
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if from.WithZone("") != in.peer.Unmap().WithZone("") {
		in.seen.complain(in.log, from, "connection from an address that is not the peer's", "want", in.peer.String())
		conn.Close()
		return
	}
	kind, got, ok := readFirst(conn, in.within)
	if !ok {
		if len(got) > 0 { // a peer that changed its mind closes without a byte
			in.seen.complain(in.log, from, "what connected is no DRBD peer", "got", fmt.Sprintf("% x", got))
		}
		conn.Close()
		return
	}
	s := &peerSocket{conn: conn, accepted: true}
	if !in.deliver(kind, s) {
		conn.Close()
	}
}

// complaints limits the log: one line per address and minute.
type complaints struct {
	mu   sync.Mutex
	last map[netip.Addr]time.Time
}

func (c *complaints) complain(log *slog.Logger, from netip.Addr, text string, args ...any) {
	now := time.Now()
	c.mu.Lock()
	last, known := c.last[from]
	say := !known && len(c.last) < strangers || known && now.Sub(last) >= complainLess
	if len(c.last) >= strangers { // forget who has been quiet; a flood from ever new addresses stays silent
		for a, t := range c.last {
			if now.Sub(t) >= complainLess {
				delete(c.last, a)
			}
		}
	}
	if say {
		if c.last == nil {
			c.last = make(map[netip.Addr]time.Time)
		}
		c.last[from] = now
	}
	c.mu.Unlock()
	if say {
		if from.IsValid() {
			args = append(args, "peer", from.String())
		}
		log.Warn(text, args...)
	}
}
