package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// body is any of the fixed layouts.
type body interface{ Append([]byte) []byte }

// decoders holds, for each packet with a fixed part, the decoder a receiver
// uses; pads are the bytes of it that a sender may leave as garbage.
var decoders = map[Cmd]struct {
	decode func([]byte) (body, error)
	pads   []int
}{
	CmdData:               {as(DecodeBlockData), nil},
	CmdDataReply:          {as(DecodeBlockData), nil},
	CmdRSDataReply:        {as(DecodeBlockData), nil},
	CmdBarrier:            {as(DecodeBarrier), span(4, 8)},
	CmdDataRequest:        {as(DecodeBlockReq), span(20, 24)},
	CmdRSDataRequest:      {as(DecodeBlockReq), span(20, 24)},
	CmdProtocol:           {as(DecodeProtocol), nil},
	CmdUUIDs:              {as(DecodeUUIDs), nil},
	CmdSizes:              {as(DecodeSizes), span(55, 56)},
	CmdState:              {as(DecodeState), nil},
	CmdSyncUUID:           {as(DecodeSyncUUID), nil},
	CmdStateChgReq:        {as(DecodeStateChgReq), nil},
	CmdRecvAck:            {as(DecodeBlockAck), nil},
	CmdWriteAck:           {as(DecodeBlockAck), nil},
	CmdRSWriteAck:         {as(DecodeBlockAck), nil},
	CmdSuperseded:         {as(DecodeBlockAck), nil},
	CmdNegAck:             {as(DecodeBlockAck), nil},
	CmdNegDReply:          {as(DecodeBlockAck), nil},
	CmdNegRSDReply:        {as(DecodeBlockAck), nil},
	CmdBarrierAck:         {as(DecodeBarrierAck), nil},
	CmdStateChgReply:      {as(DecodeStateChgReply), nil},
	CmdOVRequest:          {as(DecodeBlockReq), span(20, 24)},
	CmdOVReply:            {as(DecodeBlockReq), span(20, 24)},
	CmdOVResult:           {as(DecodeBlockAck), nil},
	CmdCsumRSRequest:      {as(DecodeBlockReq), span(20, 24)},
	CmdRSIsInSync:         {as(DecodeBlockAck), nil},
	CmdSyncParam89:        {as(DecodeSyncParam89), nil},
	CmdDelayProbe:         {as(DecodeDelayProbe), nil},
	CmdOutOfSync:          {as(DecodeBlockDesc), span(12, 16)},
	CmdRSCancel:           {as(DecodeBlockAck), nil},
	CmdConnStChgReq:       {as(DecodeStateChgReq), nil},
	CmdConnStChgReply:     {as(DecodeStateChgReply), nil},
	CmdRetryWrite:         {as(DecodeBlockAck), nil},
	CmdProtocolUpdate:     {as(DecodeProtocol), nil},
	CmdTrim:               {as(DecodeTrimBlock), nil},
	CmdRSThinReq:          {as(DecodeBlockReq), span(20, 24)},
	CmdRSDeallocated:      {as(DecodeBlockDesc), span(12, 16)},
	CmdWSame:              {as(DecodeTrimBlock), nil},
	CmdZeroes:             {as(DecodeTrimBlock), nil},
	CmdConnectionFeatures: {as(DecodeFeatures), span(12, 72)},
}

func as[P body](decode func([]byte) (P, error)) func([]byte) (body, error) {
	return func(b []byte) (body, error) { return decode(b) }
}

func span(from, to int) []int {
	var s []int
	for ; from < to; from++ {
		s = append(s, from)
	}
	return s
}

// recode decodes the bytes, encodes what came out, and gives the bytes it
// expects: the ones given, pads cleared.
func recode(c Cmd, b []byte) (got, want []byte, err error) {
	d := decoders[c]
	v, err := d.decode(b)
	if err != nil {
		return nil, nil, err
	}
	want = bytes.Clone(b)
	for _, at := range d.pads {
		if at < len(want) {
			want[at] = 0
		}
	}
	if s, ok := v.(Sizes); ok && len(b) == lenSizesShort {
		return s.AppendShort(nil), want, nil
	}
	return v.Append(nil), want, nil
}

// Every decoder refuses every length but its own, and says so in the shape of
// this package's errors.
func TestDecodersRefuseOtherLengths(t *testing.T) {
	for _, g := range golden {
		if g.body == nil {
			continue
		}
		c := g.header.Cmd
		for n := range 200 {
			b := make([]byte, n)
			copy(b, g.body.Append(nil))
			_, err := decoders[c].decode(b)
			fits := n == c.Fixed()
			switch c {
			case CmdSizes:
				fits = n == 32 || n == 56
			case CmdProtocol, CmdProtocolUpdate:
				fits = n == g.header.DecodeLen()
			}
			if fits != (err == nil) {
				t.Errorf("%v of %d bytes: %v", c, n, err)
			}
			var bad *DecodeError
			if err != nil && (!errors.As(err, &bad) || bad.Packet != c && bad.Packet != CmdUnspecified) {
				t.Errorf("%v of %d bytes: error %#v", c, n, err)
			}
		}
	}
}

// The decoders look at what a receiver could not survive to believe: a range
// beyond the protocol's limits, or a position that overflows in bytes.
func TestDecodersRefuseRanges(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Cmd
		body body
		ok   bool
	}{
		{"highest sector", CmdData, BlockData{Sector: maxSector}, true},
		{"beyond it", CmdData, BlockData{Sector: maxSector + 1}, false},
		{"beyond it", CmdTrim, TrimBlock{BlockData{Sector: maxSector + 1}, 512}, false},
		{"beyond it", CmdDataRequest, BlockReq{Sector: 1 << 63, Size: 512}, false},
		{"beyond it", CmdWriteAck, BlockAck{Sector: 1<<64 - 1, Size: 512}, false},
		{"beyond it", CmdOutOfSync, BlockDesc{Sector: maxSector + 1, Size: 512}, false},
		{"beyond it", CmdSizes, Sizes{DSize: maxSector + 1}, false},
		{"beyond it", CmdSizes, Sizes{USize: maxSector + 1}, false},
		{"beyond it", CmdSizes, Sizes{CSize: maxSector + 1}, false},
		{"largest device", CmdSizes, Sizes{DSize: maxSector, USize: maxSector, CSize: maxSector}, true},

		{"largest", CmdTrim, TrimBlock{Size: MaxTrim}, true},
		{"larger", CmdTrim, TrimBlock{Size: MaxTrim + 512}, false},
		{"empty", CmdTrim, TrimBlock{}, false},
		{"odd", CmdZeroes, TrimBlock{Size: 513}, false},
		{"largest", CmdRSDataRequest, BlockReq{Size: MaxRequest}, true},
		{"larger", CmdRSDataRequest, BlockReq{Size: MaxRequest + 512}, false},
		{"empty", CmdDataRequest, BlockReq{}, false},
		{"odd", CmdOVRequest, BlockReq{Size: 4095}, false},
		{"of a refused trim", CmdNegAck, BlockAck{}, true},
		{"of the largest trim", CmdWriteAck, BlockAck{Size: MaxTrim}, true},
		{"larger", CmdWriteAck, BlockAck{Size: MaxTrim + 512}, false},
		{"odd", CmdWriteAck, BlockAck{Size: 100}, false},
		{"largest", CmdOutOfSync, BlockDesc{Size: MaxTrim}, true},
		{"larger", CmdOutOfSync, BlockDesc{Size: MaxTrim + 512}, false},
		{"empty", CmdRSDeallocated, BlockDesc{}, false},
		{"odd", CmdRSDeallocated, BlockDesc{Size: 1}, false},
	} {
		if _, err := decoders[tc.c].decode(tc.body.Append(nil)); (err == nil) != tc.ok {
			t.Errorf("%v %s: %v", tc.c, tc.name, err)
		}
	}
}

// Garbage where a sender may leave it changes nothing.
func TestPadsAreNotLookedAt(t *testing.T) {
	for _, g := range golden {
		if g.body == nil || len(decoders[g.header.Cmd].pads) == 0 {
			continue
		}
		b := g.body.Append(nil)
		for _, at := range decoders[g.header.Cmd].pads {
			b[at] = 0xa5
		}
		v, err := decoders[g.header.Cmd].decode(b)
		if err != nil || !reflect.DeepEqual(v, g.body) {
			t.Errorf("%v: %+v, %v", g.header.Cmd, v, err)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", MaxName-1)
	for _, b := range [][]byte{
		Protocol{IntegrityAlg: long}.Append(nil),
		SyncParam89{VerifyAlg: long, CsumsAlg: long}.Append(nil),
	} {
		c := CmdProtocol
		if len(b) == lenSyncParam {
			c = CmdSyncParam89
		}
		if got, want, err := recode(c, b); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v with the longest name: %v", c, err)
		}
	}
	bad := map[string]struct {
		c Cmd
		b []byte
	}{
		"no NUL":            {CmdProtocol, append(make([]byte, lenProtocol), "md5"...)},
		"bytes after NUL":   {CmdProtocol, append(make([]byte, lenProtocol), "md5\x00x"...)},
		"two NULs":          {CmdProtocol, append(make([]byte, lenProtocol), "md5\x00\x00"...)},
		"too long":          {CmdProtocol, append(make([]byte, lenProtocol), long+"x\x00"...)},
		"unended verify":    {CmdSyncParam89, edit(make([]byte, lenSyncParam), 4, long+"x")},
		"unended csums":     {CmdSyncParam89, edit(make([]byte, lenSyncParam), 68, long+"x")},
		"bytes in padding":  {CmdSyncParam89, edit(make([]byte, lenSyncParam), 4, "md5\x00x")},
		"bytes in padding2": {CmdSyncParam89, edit(make([]byte, lenSyncParam), 131, "x")},
	}
	for name, tc := range bad {
		if v, err := decoders[tc.c].decode(tc.b); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
	for name, encode := range map[string]func(){
		"a name with a NUL":     func() { Protocol{IntegrityAlg: "a\x00b"}.Append(nil) },
		"a name of 64 bytes":    func() { SyncParam89{CsumsAlg: long + "x"}.Append(nil) },
		"a length for h80":      func() { AppendHeader80(nil, Header{Length: 1 << 16}) },
		"a volume for h80":      func() { AppendHeader80(nil, Header{Volume: 1}) },
		"an uneven position":    func() { SectorOf(100) },
		"a position below zero": func() { SectorOf(-512) },
		"a state too wide":      func() { StateBits{Conn: 32}.Word() },
	} {
		if !panics(encode) {
			t.Errorf("%s was encoded", name)
		}
	}
}

func edit(b []byte, at int, s string) []byte {
	copy(b[at:], s)
	return b
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
