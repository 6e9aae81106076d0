package wiretest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// record is one captured frame.
type record struct {
	at    time.Duration // since the epoch of the capturing machine
	frame []byte
}

const (
	pcapMagic      = 0xa1b2c3d4 // microseconds
	pcapEthernet   = 1
	pcapHeaderLen  = 24
	pcapRecordLen  = 16
	pcapMaxCapture = 1 << 20 // longest frame accepted, bytes
	pcapMaxFile    = 1 << 28 // longest file accepted, unzipped, bytes
)

// records takes a classic little-endian pcap file with microseconds and
// Ethernet frames apart. It refuses another form, a frame that was cut short
// by the capture, and a file that ends inside a record.
func records(file []byte) ([]record, error) {
	le := binary.LittleEndian
	if len(file) < pcapHeaderLen || le.Uint32(file) != pcapMagic || le.Uint32(file[20:]) != pcapEthernet {
		return nil, fmt.Errorf("not a little-endian pcap file of Ethernet frames")
	}
	var out []record
	for rest := file[pcapHeaderLen:]; len(rest) > 0; {
		if len(rest) < pcapRecordLen {
			return nil, fmt.Errorf("record %d: %d bytes of its header", len(out), len(rest))
		}
		have, was := le.Uint32(rest[8:]), le.Uint32(rest[12:])
		if have != was || have > pcapMaxCapture {
			return nil, fmt.Errorf("record %d: %d bytes of a frame of %d", len(out), have, was)
		}
		if uint32(len(rest)-pcapRecordLen) < have {
			return nil, fmt.Errorf("record %d: the file ends inside", len(out))
		}
		at := time.Duration(le.Uint32(rest))*time.Second + time.Duration(le.Uint32(rest[4:]))*time.Microsecond
		out = append(out, record{at, rest[pcapRecordLen:][:have]})
		rest = rest[pcapRecordLen+have:]
	}
	return out, nil
}

// unzip gives the bytes as they are, or what they unpack to.
func unzip(file []byte) ([]byte, error) {
	if !bytes.HasPrefix(file, []byte{0x1f, 0x8b}) {
		return file, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, pcapMaxFile+1))
	if err == nil && len(out) > pcapMaxFile {
		err = fmt.Errorf("more than %d bytes of recording", pcapMaxFile)
	}
	return out, err
}
