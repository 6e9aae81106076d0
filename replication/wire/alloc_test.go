package wire

import "testing"

// What passes for every write and every resynced block makes no garbage.
var hot = map[string]func(buf []byte){
	"header": func(buf []byte) {
		sinkHeader, sinkErr = DecodeHeader100(AppendHeader100(buf, Header{CmdData, 1, 24 + 4096}))
		sinkErr = CheckLength(DataSock, sinkHeader)
		sinkInt, sinkErr = BlockLen(sinkHeader, 0)
	},
	"p_data": func(buf []byte) {
		sinkData, sinkErr = DecodeBlockData(BlockData{8, 1, 2, DPSendWriteAck}.Append(buf))
	},
	"p_trim": func(buf []byte) {
		sinkTrim, sinkErr = DecodeTrimBlock(TrimBlock{BlockData{8, 1, 2, DPDiscard}, 4096}.Append(buf))
	},
	"p_block_req": func(buf []byte) {
		sinkReq, sinkErr = DecodeBlockReq(BlockReq{8, IDSyncer, 4096}.Append(buf))
	},
	"p_block_ack": func(buf []byte) {
		sinkAck, sinkErr = DecodeBlockAck(BlockAck{8, 1, 4096, 3}.Append(buf))
	},
	"p_block_desc": func(buf []byte) {
		sinkDesc, sinkErr = DecodeBlockDesc(BlockDesc{8, 4096}.Append(buf))
	},
	"p_barrier": func(buf []byte) {
		sinkBarrier, sinkErr = DecodeBarrier(Barrier{1}.Append(buf))
	},
	"p_barrier_ack": func(buf []byte) {
		sinkBarrierAck, sinkErr = DecodeBarrierAck(BarrierAck{1, 2}.Append(buf))
	},
	"crc32c": func(buf []byte) {
		sinkOK = CRC32C.Matches(CRC32C.Append(buf, block), block)
	},
	"sha1": func(buf []byte) {
		sinkOK = SHA1.Matches(SHA1.Append(buf, block), block)
	},
	"sha256": func(buf []byte) {
		sinkOK = SHA256.Matches(SHA256.Append(buf, block), block)
	},
}

var (
	sinkHeader     Header
	sinkData       BlockData
	sinkTrim       TrimBlock
	sinkReq        BlockReq
	sinkAck        BlockAck
	sinkDesc       BlockDesc
	sinkBarrier    Barrier
	sinkBarrierAck BarrierAck
	sinkInt        int
	sinkOK         bool
	sinkErr        error

	block = make([]byte, 4096)
)

func TestHotPacketsDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 256)
	for name, f := range hot {
		if n := testing.AllocsPerRun(100, func() { f(buf) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if sinkErr != nil {
			t.Errorf("%s: %v", name, sinkErr)
		}
	}
}

func BenchmarkHot(b *testing.B) {
	buf := make([]byte, 0, 256)
	for name, f := range hot {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(buf)
			}
		})
	}
}
