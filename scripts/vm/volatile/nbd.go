package volatile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The part of the NBD protocol (fixed newstyle, simple replies) that QEMU's
// client needs. All integers are big-endian. Source: the NBD project's doc/proto.md.
const (
	nbdMagic     = 0x4e42444d41474943 // "NBDMAGIC"
	optMagic     = 0x49484156454f5054 // "IHAVEOPT"
	optReply     = 0x3e889045565a9
	requestMagic = 0x25609513
	replyMagic   = 0x67446698

	optExportName, optAbort, optInfo, optGo = 1, 2, 6, 7

	repAck, repInfo              = 1, 3
	repUnsupported               = 1<<31 + 1
	infoExport, infoBlockSize    = 0, 3
	cmdRead, cmdWrite, cmdDisc   = 0, 1, 2
	cmdFlush, cmdTrim, cmdZeroes = 3, 4, 6
	flagFUA                      = 1 << 0

	// Transmission: flags are there; flush, FUA, trim and write-zeroes work.
	exportFlags = 1<<0 | 1<<2 | 1<<3 | 1<<5 | 1<<6

	errIO, errInvalid = 5, 22

	maxOption  = 4 << 10
	maxPayload = 32 << 20 // what QEMU sends at most
)

// A Server offers one disk on one socket, to any number of clients in turn.
type Server struct {
	disk     *Disk
	listener net.Listener
	clients  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// Serve offers the disk at a listener until Close.
func Serve(d *Disk, l net.Listener) *Server {
	s := &Server{disk: d, listener: l, conns: map[net.Conn]bool{}}
	s.clients.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.clients.Go(func() { s.client(conn) })
		}
	})
	return s
}

// Close ends all clients and waits for what they had begun. The disk stays open.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	err := s.listener.Close()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.clients.Wait()
	return err
}

func (s *Server) client(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.conns[conn] = true
	s.mu.Unlock()
	c := &client{disk: s.disk, r: bufio.NewReaderSize(conn, 1<<16), w: bufio.NewWriterSize(conn, 1<<16)}
	if c.negotiate() == nil {
		_ = c.transmit() // it ended its connection, or broke the protocol: both end it
	}
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// A client is one connection. Its requests are answered in order.
type client struct {
	disk *Disk
	r    *bufio.Reader
	w    *bufio.Writer
}

var errEnd = errors.New("the client ended the session")

func (c *client) put(fields ...any) error {
	for _, f := range fields {
		if err := binary.Write(c.w, binary.BigEndian, f); err != nil {
			return err
		}
	}
	return nil
}

// negotiate greets and answers options until one starts the transmission.
func (c *client) negotiate() error {
	if err := c.put(uint64(nbdMagic), uint64(optMagic), uint16(3)); err != nil { // fixed newstyle, no zeroes
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	var clientFlags uint32
	if err := binary.Read(c.r, binary.BigEndian, &clientFlags); err != nil {
		return err
	}
	for {
		var h struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := binary.Read(c.r, binary.BigEndian, &h); err != nil {
			return err
		}
		if h.Magic != optMagic || h.Len > maxOption {
			return fmt.Errorf("option %d: magic %x, %d bytes", h.Option, h.Magic, h.Len)
		}
		data := make([]byte, h.Len)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return err
		}
		begun, err := c.option(h.Option, data, clientFlags&2 != 0)
		if ferr := c.w.Flush(); err == nil {
			err = ferr
		}
		if err != nil || begun {
			return err
		}
	}
}

func (c *client) option(option uint32, data []byte, noZeroes bool) (begun bool, err error) {
	switch option {
	case optExportName:
		err := c.put(uint64(c.disk.Size()), uint16(exportFlags))
		if err == nil && !noZeroes {
			err = c.put(make([]byte, 124))
		}
		return true, err
	case optGo, optInfo:
		err := c.put(uint64(optReply), option, uint32(repInfo), uint32(12), uint16(infoExport), uint64(c.disk.Size()), uint16(exportFlags))
		if err == nil { // smallest, preferred and largest block
			err = c.put(uint64(optReply), option, uint32(repInfo), uint32(14), uint16(infoBlockSize), uint32(SectorSize), uint32(4096), uint32(maxPayload))
		}
		if err == nil {
			err = c.put(uint64(optReply), option, uint32(repAck), uint32(0))
		}
		return option == optGo, err
	case optAbort:
		return false, errEnd
	}
	return false, c.put(uint64(optReply), option, uint32(repUnsupported), uint32(0))
}

type request struct {
	Magic  uint32
	Flags  uint16
	Type   uint16
	Cookie uint64
	Off    uint64
	Len    uint32
}

func (c *client) transmit() error {
	var buf []byte
	for {
		if c.r.Buffered() == 0 { // answers of a batch leave together
			if err := c.w.Flush(); err != nil {
				return err
			}
		}
		var q request
		if err := binary.Read(c.r, binary.BigEndian, &q); err != nil {
			return err
		}
		if q.Magic != requestMagic || q.Type == cmdDisc {
			return errEnd
		}
		var data []byte
		if q.Type == cmdRead || q.Type == cmdWrite {
			if q.Len > maxPayload {
				return fmt.Errorf("request of %d bytes", q.Len)
			}
			if int(q.Len) > cap(buf) {
				buf = make([]byte, q.Len)
			}
			data = buf[:q.Len]
		}
		if q.Type == cmdWrite {
			if _, err := io.ReadFull(c.r, data); err != nil {
				return err
			}
		}
		code := c.serve(q, data)
		if err := c.put(uint32(replyMagic), code, q.Cookie); err != nil {
			return err
		}
		if q.Type == cmdRead && code == 0 {
			if _, err := c.w.Write(data); err != nil {
				return err
			}
		}
	}
}

// serve does one request and returns the error number for the reply.
func (c *client) serve(q request, data []byte) uint32 {
	size := uint64(c.disk.Size())
	if uint64(q.Len) > size || q.Off > size-uint64(q.Len) || q.Off%SectorSize != 0 || q.Len%SectorSize != 0 {
		return errInvalid
	}
	off := int64(q.Off)
	var err error
	switch q.Type {
	case cmdRead:
		err = c.disk.Read(data, off)
	case cmdWrite:
		if q.Flags&flagFUA != 0 {
			err = c.disk.WriteFUA(data, off)
		} else {
			err = c.disk.Write(data, off)
		}
	case cmdFlush:
		err = c.disk.Flush()
	case cmdTrim, cmdZeroes:
		err = c.disk.Zero(off, int64(q.Len))
	default:
		return errInvalid
	}
	if err != nil {
		return errIO
	}
	return 0
}
