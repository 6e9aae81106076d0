package replication

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/wire"
)

// challengeRandom is how many bytes of our challenges are random; the others are a mark.
const challengeRandom = 32

// markName is the name for newChallenge of this node's side of a resource: the same in each of its resources, and not the peer's. A
// floating host has none but its address, whose port belongs to the resource.
func markName(local, peer *config.Host) string {
	switch at := local.Address; {
	case len(local.Names) > 0:
		return local.Names[0]
	case at.Addr() == peer.Address.Addr(): // both nodes are on one machine
		return at.String()
	default:
		return at.Addr().String()
	}
}

// newChallenge makes a challenge that this node knows again, whichever of its connections and resources it was made for:
//
//	offset  size
//	     0    32  random
//	    32    32  mark: HMAC-SHA256 of the node's name and the random bytes, under the shared secret
//
// An answer to a challenge does not say who gave it, so who is asked one could have it answered by the one who asks, on a second
// connection. Towards the peer the mark is random bytes like the others.
func newChallenge(secret []byte, name string) (c [wire.ChallengeLen]byte) {
	rand.Read(c[:challengeRandom])
	copy(c[challengeRandom:], challengeMark(secret, name, c[:challengeRandom]))
	return c
}

// ownChallenge reports whether a challenge was made by a node of this name and secret.
func ownChallenge(secret []byte, name string, challenge []byte) bool {
	return len(challenge) >= wire.ChallengeLen &&
		hmac.Equal(challenge[challengeRandom:wire.ChallengeLen], challengeMark(secret, name, challenge[:challengeRandom]))
}

// challengeMark signs less than ChallengeLen bytes, so that no mark is the answer to a challenge.
func challengeMark(secret []byte, name string, random []byte) []byte {
	who := sha256.Sum256([]byte(name))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("urbd"))
	mac.Write(who[:16])
	mac.Write(random)
	return mac.Sum(nil)
}
