package wire

import (
	"bytes"
	"crypto/hmac"
	"hash"
)

// Authenticates reports whether the algorithm makes an HMAC, and so may stand
// in cram-hmac-alg. A checksum does not.
func (d Digest) Authenticates() bool { return d != NoDigest && d != CRC32C }

// AppendAuth appends the body of P_AUTH_RESPONSE: the HMAC of the challenge, all
// of it as received, under the shared secret without a NUL. An algorithm that
// does not authenticate is a bug of the caller.
//
// Both nodes send P_AUTH_CHALLENGE with ChallengeLen random bytes and answer the
// other's. Source: docs/drbd-wire.md 6.
func (d Digest) AppendAuth(dst, secret, challenge []byte) []byte {
	if !d.Authenticates() {
		panic("wire: authentication with " + d.String())
	}
	mac := hmac.New(func() hash.Hash { return d.New() }, secret)
	mac.Write(challenge)
	return mac.Sum(dst)
}

// AuthMatches reports, in constant time, whether response answers challenge.
func (d Digest) AuthMatches(response, secret, challenge []byte) bool {
	return hmac.Equal(response, d.AppendAuth(nil, secret, challenge))
}

// CheckChallenge refuses a P_AUTH_CHALLENGE of a length outside ChallengeLen to
// MaxChallenge and one that is ours thrown back.
// Source: docs/drbd-wire.md 6.
func CheckChallenge(theirs []byte, mine [ChallengeLen]byte) error {
	if len(theirs) < ChallengeLen || len(theirs) > MaxChallenge {
		return &DecodeError{CmdAuthChallenge, "a challenge of the wrong length"}
	}
	if bytes.HasPrefix(theirs, mine[:]) {
		return &DecodeError{CmdAuthChallenge, "our own challenge thrown back"}
	}
	return nil
}
