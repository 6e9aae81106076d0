package config

const (
	noSuspend  = "freezing I/O without data is not served yet: such requests fail with an I/O error"
	noMask     = "urbd takes its CPUs from its systemd unit"
	noPromote  = "urbd does not promote by itself at boot"
	noStacking = "stacked resources are not served"
	noModule   = "urbd loads no module"
	noCounting = "urbd counts nobody"
	noDialog   = "urbd has no boot dialog"
	noTimer    = "urbd's verbs have deadlines of their own"
	alwaysVNR  = "urbd always names a device by resource and volume"
	noIPCheck  = "only the missing local address is looked for, at up"
)

// resourceOptions are the rows of options { }. Source: docs/drbd-metadata.md 9.1.
var resourceOptions = []Option{
	text("cpu-mask", 32, warn(noMask), func(s *settings) any { return &s.Options.CPUMask }),
	word("on-no-data-accessible", []string{"io-error", "suspend-io"}, refuse(noSuspend), func(s *settings) any { return &s.Options.OnNoDataAccessible }),
	legacy("delay-probe-volume"),
	legacy("delay-probe-interval"),
	legacy("throttle-threshold"),
	legacy("hold-off-threshold"),
}

// startupOptions are the rows of startup { }.
var startupOptions = []Option{
	number("wfc-timeout", seconds, 0, 300000, 0, served, func(s *settings) any { return &s.Startup.WFCTimeout }),
	number("degr-wfc-timeout", seconds, 0, 300000, 0, served, func(s *settings) any { return &s.Startup.DegrWFCTimeout }),
	number("outdated-wfc-timeout", seconds, 0, 300000, 0, served, func(s *settings) any { return &s.Startup.OutdatedWFCTimeout }),
	flag("wait-after-sb", false, warn("wait-connect ends at a split brain", "no"), func(s *settings) any { return &s.Startup.WaitAfterSB }),
	list("become-primary-on", warn(noPromote), func(s *settings) any { return &s.Startup.BecomePrimaryOn }),
	flag("stacked-timeouts", false, refuse(noStacking), func(s *settings) any { return &s.Startup.StackedTimeouts }),
}

// globalOptions are the rows of global { }.
var globalOptions = []Option{
	number("minor-count", count, 1, 255, 32, note(noModule), func(s *settings) any { return &s.Global.MinorCount }),
	number("dialog-refresh", seconds, 0, 600, 1, note(noDialog), func(s *settings) any { return &s.Global.DialogRefresh }),
	flag("disable-ip-verification", false, note(noIPCheck), func(s *settings) any { return &s.Global.DisableIPVerification }),
	word("usage-count", []string{"ask", "yes", "no"}, note(noCounting), func(s *settings) any { return &s.Global.UsageCount }),
	flag("udev-always-use-vnr", false, note(alwaysVNR), func(s *settings) any { return &s.Global.UdevAlwaysUseVNR }),
	number("cmd-timeout-short", seconds, 0, 900, 5, note(noTimer), func(s *settings) any { return &s.Global.CmdTimeoutShort }),
	number("cmd-timeout-medium", seconds, 0, 900, 121, note(noTimer), func(s *settings) any { return &s.Global.CmdTimeoutMedium }),
	number("cmd-timeout-long", seconds, 0, 900, 600, note(noTimer), func(s *settings) any { return &s.Global.CmdTimeoutLong }),
}

// handlerOptions are the rows of handlers { }: the commands of docs/drbd-metadata.md 8.13. They have no field of
// their own, Resource.Handlers holds them.
var handlerOptions = []Option{
	text("pri-on-incon-degr", maxText, warn(noHandlers), nil),
	text("pri-lost-after-sb", maxText, warn(noHandlers), nil),
	text("pri-lost", maxText, warn(noHandlers), nil),
	text("fence-peer", maxText, warn(noHandlers), nil),
	text("unfence-peer", maxText, warn(noHandlers), nil),
	text("local-io-error", maxText, warn(noHandlers), nil),
	text("initial-split-brain", maxText, warn(noHandlers), nil),
	text("split-brain", maxText, warn(noHandlers), nil),
	text("before-resync-target", maxText, warn(noHandlers), nil),
	text("after-resync-target", maxText, warn(noHandlers), nil),
	text("before-resync-source", maxText, warn(noHandlers), nil),
	text("out-of-sync", maxText, warn(noHandlers), nil),
}
