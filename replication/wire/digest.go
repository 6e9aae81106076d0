package wire

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
)

// Digest is an algorithm that blocks are compared by: data-integrity-alg,
// verify-alg, csums-alg; and the hash inside the HMAC of cram-hmac-alg. The zero
// value is "none". Source: docs/drbd-wire.md 6, 11.1.
type Digest uint8

const (
	NoDigest Digest = iota
	CRC32C
	MD5
	SHA1
	SHA224
	SHA256
	SHA384
	SHA512
	SHA3x224
	SHA3x256
	SHA3x384
	SHA3x512
)

// digests has the names of the kernel's crypto interface, and sizes in bytes.
var digests = [...]struct {
	name string
	size int
}{
	NoDigest: {"", 0},
	CRC32C:   {"crc32c", crc32.Size},
	MD5:      {"md5", md5.Size},
	SHA1:     {"sha1", sha1.Size},
	SHA224:   {"sha224", sha256.Size224},
	SHA256:   {"sha256", sha256.Size},
	SHA384:   {"sha384", sha512.Size384},
	SHA512:   {"sha512", sha512.Size},
	SHA3x224: {"sha3-224", 28},
	SHA3x256: {"sha3-256", 32},
	SHA3x384: {"sha3-384", 48},
	SHA3x512: {"sha3-512", 64},
}

// DigestByName finds an algorithm; the empty name is NoDigest. ok is false for a
// name that is not supported here.
func DigestByName(name string) (d Digest, ok bool) {
	for i := range digests {
		if digests[i].name == name {
			return Digest(i), true
		}
	}
	return NoDigest, false
}

// DigestNames lists the supported names, without the empty one.
func DigestNames() []string {
	names := make([]string, 0, len(digests)-1)
	for _, d := range digests[1:] {
		names = append(names, d.name)
	}
	return names
}

// Name is the algorithm's name as it stands on the wire, empty for none.
func (d Digest) Name() string { return digests[d].name }

func (d Digest) String() string {
	if d == NoDigest {
		return "none"
	}
	return d.Name()
}

// Size is the length of a digest in bytes, 0 for none, at most MaxDigest.
func (d Digest) Size() int { return digests[d].size }

// Append appends the digest of data as it stands on the wire.
func (d Digest) Append(dst, data []byte) []byte {
	switch d {
	case NoDigest:
		return dst
	case CRC32C:
		// The kernel hands out the CRC in little-endian order, and so it
		// travels (docs/drbd-wire.md 11.1).
		return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(data, castagnoli))
	case MD5:
		s := md5.Sum(data)
		return append(dst, s[:]...)
	case SHA1:
		s := sha1.Sum(data)
		return append(dst, s[:]...)
	case SHA224:
		s := sha256.Sum224(data)
		return append(dst, s[:]...)
	case SHA256:
		s := sha256.Sum256(data)
		return append(dst, s[:]...)
	case SHA384:
		s := sha512.Sum384(data)
		return append(dst, s[:]...)
	case SHA512:
		s := sha512.Sum512(data)
		return append(dst, s[:]...)
	case SHA3x224:
		s := sha3.Sum224(data)
		return append(dst, s[:]...)
	case SHA3x256:
		s := sha3.Sum256(data)
		return append(dst, s[:]...)
	case SHA3x384:
		s := sha3.Sum384(data)
		return append(dst, s[:]...)
	case SHA3x512:
		s := sha3.Sum512(data)
		return append(dst, s[:]...)
	}
	panic(fmt.Sprintf("wire: unknown digest %d", uint8(d)))
}

// Matches reports whether sum is the digest of data.
func (d Digest) Matches(sum, data []byte) bool {
	var room [MaxDigest]byte
	return bytes.Equal(sum, d.Append(room[:0], data))
}

// New gives a running digest, for data that comes in pieces. Its Sum is in the
// order of the wire. It is nil for none.
func (d Digest) New() hash.Hash {
	switch d {
	case NoDigest:
		return nil
	case CRC32C:
		return runningCRC32C{crc32.New(castagnoli)}
	case MD5:
		return md5.New()
	case SHA1:
		return sha1.New()
	case SHA224:
		return sha256.New224()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	case SHA3x224:
		return sha3.New224()
	case SHA3x256:
		return sha3.New256()
	case SHA3x384:
		return sha3.New384()
	case SHA3x512:
		return sha3.New512()
	}
	panic(fmt.Sprintf("wire: unknown digest %d", uint8(d)))
}

// castagnoli is the polynomial of crc32c.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type runningCRC32C struct{ hash.Hash32 }

// Sum is little-endian, where the library's is not.
func (h runningCRC32C) Sum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, h.Sum32())
}
