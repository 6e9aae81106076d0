package statemachine

// SplitBrainPolicy is a value of after-sb-0pri, -1pri or -2pri. The values are those of
// P_PROTOCOL. Source: docs/drbd-wire.md 1, 9.4.
type SplitBrainPolicy uint8

// The policies.
const (
	SBDisconnect            SplitBrainPolicy = 0
	SBDiscardYoungerPrimary SplitBrainPolicy = 1
	SBDiscardOlderPrimary   SplitBrainPolicy = 2
	SBDiscardZeroChanges    SplitBrainPolicy = 3
	SBDiscardLeastChanges   SplitBrainPolicy = 4
	SBDiscardLocal          SplitBrainPolicy = 5
	SBDiscardRemote         SplitBrainPolicy = 6
	SBConsensus             SplitBrainPolicy = 7
	SBDiscardSecondary      SplitBrainPolicy = 8
	SBCallPriLost           SplitBrainPolicy = 9
	SBViolently             SplitBrainPolicy = 10
)

// decide applies the policy for as many Primaries as there are: ±1, or
// resultSplitBrain if it does not know either. demote says that this node has to
// give its role up first.
func (p SplitBrainPolicies) decide(in HandshakeInput) (result int, demote bool) {
	primaries := 0
	for _, role := range []Role{in.Role, in.PeerRole} {
		if role == Primary {
			primaries++
		}
	}
	switch primaries {
	case 0:
		return p.zeroPrimaries(in), false
	case 1:
		return p.onePrimary(in)
	}
	return p.twoPrimaries(in)
}

func (p SplitBrainPolicies) zeroPrimaries(in HandshakeInput) int {
	self, peer := in.Self.Bitmap&RoleBit != 0, in.Peer.Bitmap&RoleBit != 0
	switch p.ZeroPri {
	case SBDiscardYoungerPrimary:
		if self != peer {
			return win(self)
		}
		return changes(in, SBDiscardYoungerPrimary)
	case SBDiscardOlderPrimary:
		if self != peer {
			return win(peer)
		}
		return changes(in, SBDiscardOlderPrimary)
	case SBDiscardZeroChanges, SBDiscardLeastChanges:
		return changes(in, p.ZeroPri)
	case SBDiscardLocal:
		return -1
	case SBDiscardRemote:
		return 1
	}
	return resultSplitBrain
}

// changes decides by the numbers of changed blocks: an untouched side gives way, and unless
// exactly that was asked for, the one with fewer changes.
func changes(in HandshakeInput, policy SplitBrainPolicy) int {
	mine, theirs := in.SelfBits, in.Peer.Bits
	if policy != SBDiscardLeastChanges {
		switch {
		case mine == 0 && theirs == 0:
			return win(!in.ResolveConflicts)
		case theirs == 0:
			return 1
		case mine == 0:
			return -1
		case policy == SBDiscardZeroChanges:
			return resultSplitBrain
		}
	}
	if mine == theirs {
		return win(!in.ResolveConflicts)
	}
	return win(mine > theirs)
}

// win is 1 if this node's data stays, -1 if the peer's does.
func win(mine bool) int {
	if mine {
		return 1
	}
	return -1
}

func (p SplitBrainPolicies) onePrimary(in HandshakeInput) (int, bool) {
	r := p.zeroPrimaries(in)
	mine := in.Role == Primary
	switch p.OnePri {
	case SBConsensus:
		if r == win(mine) {
			return r, false
		}
	case SBViolently:
		return r, false
	case SBDiscardSecondary:
		return win(mine), false
	case SBCallPriLost:
		if r == -1 && mine {
			return p.demote()
		}
		return r, false
	}
	return resultSplitBrain, false
}

func (p SplitBrainPolicies) twoPrimaries(in HandshakeInput) (int, bool) {
	r := p.zeroPrimaries(in)
	switch p.TwoPri {
	case SBViolently:
		return r, false
	case SBCallPriLost:
		if r == -1 {
			return p.demote()
		}
		return r, false
	}
	return resultSplitBrain, false
}

// demote loses, if the role can be given up.
func (p SplitBrainPolicies) demote() (int, bool) {
	if !p.CanDemote {
		return resultSplitBrain, false
	}
	return -1, true
}
