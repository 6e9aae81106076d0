package metadata

// EffectiveSize is the size in bytes that the device gets: own is what the
// local backing device offers (Layout.DataLimit), peer what the peer's does,
// lastAgreed the la_size, user the configured size; 0 is unknown or none. With
// an unknown peer the last agreed size holds even if the local disk has grown.
// A user size larger than the result is ignored, which deserves a log record.
// To assume that the peer has space, give own for peer.
// Source: docs/drbd-metadata.md 7.1.
func EffectiveSize(own, peer, lastAgreed, user int64) int64 {
	var size int64
	switch {
	case own > 0 && peer > 0:
		size = min(own, peer)
	case lastAgreed > 0:
		size = lastAgreed
		for _, limit := range []int64{own, peer} {
			if limit > 0 {
				size = min(size, limit)
			}
		}
	default:
		size = max(own, peer)
	}
	if user > 0 && user <= size {
		size = user
	}
	return size
}
