package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// maxGreeting is how many inbound sockets may owe their first packet.
const maxGreeting = 32

// inbound accepts connections and reads their first packets. Whatever comes
// that is no peer is closed within the greeting time; the listener goes on. The peer sends its first packet with the
// connection, so when there are too many that have not, the one that has been waited for longest goes.
type inbound struct {
	listener *net.TCPListener
	peer     netip.Addr    // the only address that is let in
	within   time.Duration // for the first packet
	log      *slog.Logger
	knocks   *knocks
	deliver  func(wire.Cmd, *peerSocket) bool // false: nobody wants it any more

	wg      sync.WaitGroup
	mu      sync.Mutex
	waiting []*net.TCPConn // for their first packet, the oldest first
}

// serve runs until the listener is closed; then it waits for what it has started.
func (in *inbound) serve(ctx context.Context) {
	greeting := make(chan struct{}, maxGreeting)
	defer in.wg.Wait()
	var failed time.Time
	for {
		conn, err := in.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors or memory: the next one may do better
			if time.Since(failed) >= complainLess {
				failed = time.Now()
				in.log.Warn("cannot accept a connection", "err", err)
			}
			sleep(ctx, 100*time.Millisecond)
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
		if from != in.peer.Unmap().WithZone("") {
			in.knocks.knock(from, "a connection from an address that is not the peer's")
			conn.Close()
			continue
		}
		select {
		case greeting <- struct{}{}:
		default:
			in.hurry()
			greeting <- struct{}{} // its reader ends now
		}
		in.wait(conn)
		in.wg.Add(1)
		go func() {
			defer in.wg.Done()
			defer func() { <-greeting }()
			stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
			defer stop()
			in.greet(conn, from)
		}()
	}
}

func (in *inbound) wait(conn *net.TCPConn) {
	conn.SetReadDeadline(time.Now().Add(in.within))
	in.mu.Lock()
	in.waiting = append(in.waiting, conn)
	in.mu.Unlock()
}

// hurry ends the longest wait.
func (in *inbound) hurry() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.waiting) > 0 {
		in.waiting[0].SetReadDeadline(time.Unix(1, 0))
		in.waiting = slices.Delete(in.waiting, 0, 1)
	}
}

// spoken ends a wait. After it nobody touches the deadline of the socket.
func (in *inbound) spoken(conn *net.TCPConn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := slices.Index(in.waiting, conn); i >= 0 {
		in.waiting = slices.Delete(in.waiting, i, i+1)
	}
	conn.SetReadDeadline(time.Time{})
}

// greet reads the first packet and hands the socket on, or closes it.
func (in *inbound) greet(conn *net.TCPConn, from netip.Addr) {
	kind, got, ok := readFirst(conn)
	in.spoken(conn)
	if !ok {
		if len(got) > 0 { // a peer that changed its mind closes without a byte
			in.knocks.knock(from, "what connected is no DRBD peer", "got", fmt.Sprintf("% x", got))
		}
		conn.Close()
		return
	}
	s := &peerSocket{conn: conn, accepted: true}
	if !in.deliver(kind, s) {
		conn.Close()
	}
}
