package ublk

import "fmt"

// A Mode says how a request's data travels between its user and the handler.
type Mode uint8

const (
	// ModeCopy: the kernel copies into and out of a buffer of the request, which is registered with the ring.
	// Works everywhere; the handler owns a private copy, and may keep it (Request.Keep).
	ModeCopy Mode = iota
	// ModeAuto is ModeZeroCopy where the kernel has it and ModeCopy elsewhere. Handlers must serve both.
	ModeAuto
	// ModeUserCopy: the handler copies itself, with Request.CopyOut and CopyIn, from any goroutine.
	ModeUserCopy
	// ModeZeroCopy: the user's own pages are in the ring's buffer table; the handler moves them with
	// Request.WriteOp and ReadOp without seeing them, or copies as in ModeUserCopy. The user may
	// change a page while it is being written: what reads it twice may read two contents.
	ModeZeroCopy
)

// String returns "copy", "auto", "user-copy" or "zero-copy".
func (m Mode) String() string {
	switch m {
	case ModeCopy:
		return "copy"
	case ModeAuto:
		return "auto"
	case ModeUserCopy:
		return "user-copy"
	case ModeZeroCopy:
		return "zero-copy"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// features are the driver's flags that a mode needs.
func (m Mode) features() Features {
	switch m {
	case ModeUserCopy:
		return FeatureUserCopy
	case ModeZeroCopy:
		// User copy comes along so that a handler can look at the bytes after all.
		return FeatureZeroCopy | FeatureAutoBuf | FeatureUserCopy
	}
	return 0
}

// modeOf is the mode of a device that has these flags.
func modeOf(f Features) Mode {
	switch {
	case f.Has(ModeZeroCopy.features()):
		return ModeZeroCopy
	case f.Has(FeatureUserCopy):
		return ModeUserCopy
	}
	return ModeCopy
}

// Recovery says what becomes of a device whose server dies.
type Recovery uint8

const (
	// RecoverNone: the disk goes and every request fails.
	RecoverNone Recovery = iota
	// RecoverWait: the disk stays; requests that the server held fail, others wait for Recover.
	RecoverWait
	// RecoverReissue: the disk stays; requests that the server held are sent again to the next one. A request may
	// therefore be executed twice.
	RecoverReissue
	// RecoverFail: the disk stays and fails every request until Recover. Needs FeatureFailIO.
	RecoverFail
)

// String returns "none", "wait", "reissue" or "fail".
func (r Recovery) String() string {
	switch r {
	case RecoverNone:
		return "none"
	case RecoverWait:
		return "wait"
	case RecoverReissue:
		return "reissue"
	case RecoverFail:
		return "fail"
	}
	return fmt.Sprintf("Recovery(%d)", uint8(r))
}

func (r Recovery) features() Features {
	switch r {
	case RecoverWait:
		return FeatureRecovery
	case RecoverReissue:
		return FeatureRecovery | FeatureReissue
	case RecoverFail:
		return FeatureRecovery | FeatureFailIO
	}
	return 0
}

func recoveryOf(f Features) Recovery {
	switch {
	case f.Has(RecoverReissue.features()):
		return RecoverReissue
	case f.Has(RecoverFail.features()):
		return RecoverFail
	case f.Has(FeatureRecovery):
		return RecoverWait
	}
	return RecoverNone
}
