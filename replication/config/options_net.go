package config

const (
	noPolicies  = "automatic split-brain policies are not served yet"
	noDual      = "two Primaries at a time are not served yet"
	fullResync  = "resync by checksum is not served yet, and both sides have to agree on it"
	noIntegrity = "checksums on replicated data are not served yet, and both sides have to agree on them"
	noAhead     = "only on-congestion block is served"
	noVerify    = "announced to the peer, but urbd cannot start a verify yet"
	batches     = "urbd gathers its sends itself"
)

var (
	after0 = []string{"disconnect", "discard-younger-primary", "discard-older-primary", "discard-zero-changes",
		"discard-least-changes", "discard-local", "discard-remote"}
	after1 = []string{"disconnect", "consensus", "violently-as0p", "discard-secondary", "call-pri-lost-after-sb"}
	after2 = []string{"disconnect", "violently-as0p", "call-pri-lost-after-sb"}
	rr     = []string{"disconnect", "violently", "call-pri-lost"}
	jam    = []string{"block", "pull-ahead", "disconnect"}
)

// maxAlg is the longest name of a digest: it travels in 64 bytes with its NUL (docs/drbd-wire.md 0).
const maxAlg = 63

// netOptions are the rows of net { }. Source: docs/drbd-metadata.md 9.1.
var netOptions = []Option{
	word("protocol", []string{"C", "A", "B"}, served, func(s *settings) any { return &s.Net.Protocol }),
	number("timeout", tenths, 1, 600, 60, served, func(s *settings) any { return &s.Net.Timeout }),
	number("max-epoch-size", count, 1, 20000, 2048, served, func(s *settings) any { return &s.Net.MaxEpochSize }),
	number("max-buffers", pages, 32, 131072, 2048, served, func(s *settings) any { return &s.Net.MaxBuffers }),
	number("unplug-watermark", count, 1, 131072, 128, warn("urbd has no request queue to unplug"), func(s *settings) any { return &s.Net.UnplugWatermark }),
	number("connect-int", seconds, 1, 120, 10, served, func(s *settings) any { return &s.Net.ConnectInterval }),
	number("ping-int", seconds, 1, 120, 10, served, func(s *settings) any { return &s.Net.PingInterval }),
	number("ping-timeout", tenths, 1, 300, 5, served, func(s *settings) any { return &s.Net.PingTimeout }),
	number("socket-check-timeout", tenths, 0, 300, 0, served, func(s *settings) any { return &s.Net.SocketCheckTimeout }),
	number("sndbuf-size", bytes, 0, 10485760, 0, served, func(s *settings) any { return &s.Net.SndBuf }),
	number("rcvbuf-size", bytes, 0, 10485760, 0, served, func(s *settings) any { return &s.Net.RcvBuf }),
	number("ko-count", count, 0, 200, 7, served, func(s *settings) any { return &s.Net.KOCount }),
	flag("allow-two-primaries", false, refuse(noDual), func(s *settings) any { return &s.Net.AllowTwoPrimaries }),
	text("cram-hmac-alg", maxAlg, served, func(s *settings) any { return &s.Net.CRAMHMACAlg }),
	text("shared-secret", 63, served, func(s *settings) any { return &s.Net.SharedSecret }),
	word("after-sb-0pri", after0, refuse(noPolicies), func(s *settings) any { return &s.Net.AfterSB0Pri }),
	word("after-sb-1pri", after1, refuse(noPolicies), func(s *settings) any { return &s.Net.AfterSB1Pri }),
	word("after-sb-2pri", after2, refuse(noPolicies), func(s *settings) any { return &s.Net.AfterSB2Pri }),
	flag("always-asbp", false, refuse(noPolicies), func(s *settings) any { return &s.Net.AlwaysASBP }),
	word("rr-conflict", rr, refuse("only disconnect is served"), func(s *settings) any { return &s.Net.RRConflict }),
	text("data-integrity-alg", maxAlg, refuse(noIntegrity), func(s *settings) any { return &s.Net.DataIntegrityAlg }),
	text("csums-alg", maxAlg, refuse(fullResync), func(s *settings) any { return &s.Net.CSumsAlg }),
	flag("csums-after-crash-only", false, warn("without csums-alg it changes nothing", "no"), func(s *settings) any { return &s.Net.CSumsAfterCrashOnly }),
	text("verify-alg", maxAlg, warn(noVerify), func(s *settings) any { return &s.Net.VerifyAlg }),
	flag("use-rle", true, served, func(s *settings) any { return &s.Net.UseRLE }),
	flag("tcp-cork", true, warn(batches), func(s *settings) any { return &s.Net.TCPCork }),
	word("on-congestion", jam, refuse(noAhead), func(s *settings) any { return &s.Net.OnCongestion }),
	number("congestion-fill", sectors, 0, 20971520, 0, warn(noAhead), func(s *settings) any { return &s.Net.CongestionFill }),
	number("congestion-extents", extents, 67, 65534, 1237, warn(noAhead), func(s *settings) any { return &s.Net.CongestionExtents }),
	legacy("delay-probe-volume"),
	legacy("delay-probe-interval"),
	legacy("throttle-threshold"),
	legacy("hold-off-threshold"),
}
