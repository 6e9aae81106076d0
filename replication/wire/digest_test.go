package wire

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"testing"
)

func TestDigests(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		// The check value of the CRC catalogues, e3069283, in little-endian.
		{"crc32c", "123456789", "839206e3"},
		// RFC 1321, FIPS 180-4 examples.
		{"md5", "abc", "900150983cd24fb0d6963f7d28e17f72"},
		{"sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{"sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
		{"sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"sha384", "abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed" +
			"8086072ba1e7cc2358baeca134c825a7"},
		{"sha512", "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" +
			"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		// FIPS 202.
		{"sha3-224", "abc", "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"},
		{"sha3-256", "abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
		{"sha3-384", "abc", "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25"},
		{"sha3-512", "abc", "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0"},
		{"", "abc", ""},
	} {
		d, ok := DigestByName(tc.name)
		if !ok || d.Name() != tc.name {
			t.Fatalf("%q: %v, %v", tc.name, d, ok)
		}
		if got := fmt.Sprintf("%x", d.Append(nil, []byte(tc.data))); got != tc.want || len(got) != 2*d.Size() {
			t.Errorf("%v: %s of size %d", d, got, d.Size())
		}
		if !d.Matches(unhex(t, tc.want), []byte(tc.data)) {
			t.Errorf("%v does not match itself", d)
		}
		if d != NoDigest && d.Matches(unhex(t, tc.want), []byte(tc.data+" ")) {
			t.Errorf("%v matches other data", d)
		}
		if d.Matches([]byte{1}, []byte(tc.data)) {
			t.Errorf("%v matches a byte", d)
		}
	}
	if d, ok := DigestByName("crc32"); ok {
		t.Errorf("crc32 is %v", d)
	}
}

// In pieces or at once: the same bytes.
func TestRunningDigests(t *testing.T) {
	data := bytes.Repeat([]byte("urbd"), 1000)
	names := DigestNames()
	for _, name := range names {
		d, ok := DigestByName(name)
		if !ok || d.Size() == 0 || d.Size() > MaxDigest {
			t.Fatalf("%q: %v, size %d", name, d, d.Size())
		}
		h := d.New()
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 7)
			h.Write(rest[:n])
			rest = rest[n:]
		}
		before := []byte("before")
		if got, want := h.Sum(before), d.Append(before, data); !bytes.Equal(got, want) || h.Size() != d.Size() {
			t.Errorf("%v: %x in place of %x", d, got, want)
		}
	}
	if len(names) != 11 || NoDigest.New() != nil {
		t.Errorf("names %v, running none %v", names, NoDigest.New())
	}
}

func TestAuth(t *testing.T) {
	jefe, question := []byte("Jefe"), []byte("what do ya want for nothing?")
	counted := make([]byte, 144) // 0, 1, 2, …
	for i := range counted {
		counted[i] = byte(i)
	}
	shorter, equal := []byte("Sample message for keylen<blocklen"), []byte("Sample message for keylen=blocklen")
	covered := map[string]bool{}
	for _, tc := range []struct {
		d        Digest
		key, msg []byte
		want     string
	}{
		// RFC 2202 and RFC 4231, test case 2.
		{MD5, jefe, question, "750c783e6ab0b503eaa86e310a5db738"},
		{SHA1, jefe, question, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{SHA224, jefe, question, "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"},
		{SHA256, jefe, question, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{SHA384, jefe, question, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
		{SHA512, jefe, question, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
		// NIST, examples of HMAC-SHA3.
		{SHA3x224, counted[:28], shorter, "332cfd59347fdb8e576e77260be4aba2d6dc53117b3bfb52c6d18c04"},
		{SHA3x224, counted[:144], equal, "d8b733bcf66c644a12323d564e24dcf3fc75f231f3b67968359100c7"},
		{SHA3x256, counted[:32], shorter, "4fe8e202c4f058e8dddc23d8c34e467343e23555e24fc2f025d598f558f67205"},
		{SHA3x256, counted[:136], equal, "68b94e2e538a9be4103bebb5aa016d47961d4d1aa906061313b557f8af2c3faa"},
		{SHA3x384, counted[:48], shorter, "d588a3c51f3f2d906e8298c1199aa8ff6296218127f6b38a90b6afe2c5617725bc99987f79b22a557b6520db710b7f42"},
		{SHA3x384, counted[:104], equal, "a27d24b592e8c8cbf6d4ce6fc5bf62d8fc98bf2d486640d9eb8099e24047837f5f3bffbe92dcce90b4ed5b1e7e44fa90"},
		{SHA3x512, counted[:64], shorter, "4efd629d6c71bf86162658f29943b1c308ce27cdfa6db0d9c3ce81763f9cbce5f7ebe9868031db1a8f8eb7b6b95e5c5e3f657a8996c86a2f6527e307f0213196"},
		{SHA3x512, counted[:72], equal, "544e257ea2a3e5ea19a590e6a24b724ce6327757723fe2751b75bf007d80f6b360744bf1b7a88ea585f9765b47911976d3191cf83c039f5ffab0d29cc9d9b6da"},
	} {
		covered[tc.d.Name()] = true
		got := tc.d.AppendAuth(nil, tc.key, tc.msg)
		if fmt.Sprintf("%x", got) != tc.want {
			t.Errorf("%v: %x", tc.d, got)
		}
		if !tc.d.AuthMatches(got, tc.key, tc.msg) || tc.d.AuthMatches(got, []byte("jefe"), tc.msg) ||
			tc.d.AuthMatches(got[:len(got)-1], tc.key, tc.msg) || tc.d.AuthMatches(nil, tc.key, tc.msg) {
			t.Errorf("%v: wrong answers pass, or the right one does not", tc.d)
		}
	}
	for _, name := range DigestNames() {
		if d, _ := DigestByName(name); d.Authenticates() != covered[name] {
			t.Errorf("%s authenticates: %v, and has a published answer here: %v", name, d.Authenticates(), covered[name])
		}
	}
	for _, d := range []Digest{NoDigest, CRC32C} {
		if d.Authenticates() || !panics(func() { d.AppendAuth(nil, jefe, question) }) {
			t.Errorf("%v authenticates", d)
		}
	}
}

func TestCheckChallenge(t *testing.T) {
	mine := [ChallengeLen]byte{1, 2, 3}
	other := sha1.Sum(nil)
	theirs := append(make([]byte, ChallengeLen), other[:]...)
	for n := range 200 {
		c := make([]byte, n)
		copy(c, theirs)
		if err := CheckChallenge(c, mine); (err == nil) != (n >= 64 && n <= 128) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if CheckChallenge(mine[:], mine) == nil || CheckChallenge(append(mine[:], 9), mine) == nil {
		t.Error("our own challenge passes")
	}
}
