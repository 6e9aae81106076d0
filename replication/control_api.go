package replication

import (
	"fmt"
	"slices"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A Verb is an administrative order on the control socket, named like the command of
// drbdadm that gives it.
type Verb struct {
	Verb   string `json:"verb"`             // one of the constants below
	Volume *int   `json:"volume,omitempty"` // nil: every volume; verbs for a whole resource take its only volume too

	Force         bool `json:"force,omitempty"`           // detach, disconnect, down, primary
	DiscardMyData bool `json:"discard-my-data,omitempty"` // connect
	ClearBitmap   bool `json:"clear-bitmap,omitempty"`    // new-current-uuid
}

// The verbs of the control socket.
const (
	VerbAttach           = "attach"
	VerbDetach           = "detach"
	VerbConnect          = "connect"
	VerbDisconnect       = "disconnect"
	VerbPrimary          = "primary"
	VerbSecondary        = "secondary"
	VerbInvalidate       = "invalidate"
	VerbInvalidateRemote = "invalidate-remote"
	VerbPauseSync        = "pause-sync"
	VerbResumeSync       = "resume-sync"
	VerbNewCurrentUUID   = "new-current-uuid"
	VerbDown             = "down"
)

// commands translates v for a resource with the given volumes. An order for
// every volume becomes one command for each. The error is a *VerbError.
func (v Verb) commands(volumes []int) ([]engine.Command, error) {
	of, perVolume := v.translation()
	if of == nil {
		return nil, &VerbError{fmt.Sprintf("unknown verb %q", v.Verb)}
	}
	if v.Volume != nil {
		if !slices.Contains(volumes, *v.Volume) {
			return nil, &VerbError{fmt.Sprintf("there is no volume %d; the volumes are %v", *v.Volume, volumes)}
		}
		if !perVolume && len(volumes) > 1 {
			return nil, &VerbError{fmt.Sprintf("%s is for the whole resource, and that has the volumes %v: name the resource only", v.Verb, volumes)}
		}
		volumes = []int{*v.Volume}
	}
	if !perVolume {
		return []engine.Command{of(0)}, nil
	}
	var all []engine.Command
	for _, n := range volumes {
		all = append(all, of(n))
	}
	return all, nil
}

func (v Verb) translation() (of func(vol int) engine.Command, perVolume bool) {
	switch v.Verb {
	case VerbAttach:
		return func(n int) engine.Command { return engine.Attach{Vol: n} }, true
	case VerbDetach:
		return func(n int) engine.Command { return engine.Detach{Vol: n, Force: v.Force} }, true
	case VerbConnect:
		return func(int) engine.Command { return engine.Connect{DiscardMyData: v.DiscardMyData} }, false
	case VerbDisconnect:
		return func(int) engine.Command { return engine.Disconnect{Force: v.Force} }, false
	case VerbPrimary:
		return func(int) engine.Command { return engine.Promote{Force: v.Force} }, false
	case VerbSecondary:
		return func(int) engine.Command { return engine.Demote{} }, false
	case VerbInvalidate:
		return func(n int) engine.Command { return engine.Invalidate{Vol: n} }, true
	case VerbInvalidateRemote:
		return func(n int) engine.Command { return engine.InvalidateRemote{Vol: n} }, true
	case VerbPauseSync:
		return func(n int) engine.Command { return engine.PauseSync{Vol: n, On: true} }, true
	case VerbResumeSync:
		return func(n int) engine.Command { return engine.PauseSync{Vol: n} }, true
	case VerbNewCurrentUUID:
		return func(n int) engine.Command { return engine.NewCurrentUUID{Vol: n, ClearBitmap: v.ClearBitmap} }, true
	case VerbDown:
		return func(int) engine.Command { return engine.Down{Force: v.Force} }, false
	}
	return nil, false
}

// A LateError is an UnfinishedError that came over the control socket.
type LateError struct {
	Reason string
	GoesOn bool
}

func (e *LateError) Error() string { return e.Reason }

// A CarriedOutError says that an order was carried out, and what the outcome lacks: an engine.LeaveError that came over the control socket.
type CarriedOutError struct{ Reason string }

func (e *CarriedOutError) Error() string { return e.Reason }

// A VerbError says that an order makes no sense for this resource.
type VerbError struct{ Reason string }

func (e *VerbError) Error() string { return e.Reason }

// Refusals of the shell.
const (
	PausedAlready statemachine.Refusal = "this node pauses the resync already"
	NotPaused     statemachine.Refusal = "this node does not pause the resync"
)

// firstFailure is the lowest number of drbdsetup's failures. Numbers of state changes are negative.
const firstFailure = 102

// failures are the refusals that are no state changes, with drbdsetup's numbers. Source: docs/drbd-cli.md 2.4.
var failures = map[statemachine.Refusal]int32{
	statemachine.DiscardOnPrimary:  123,
	statemachine.AlreadyAttached:   124,
	statemachine.AlreadyConnecting: 125,
	PausedAlready:                  134,
	NotPaused:                      135,
	engine.NotStandAlone:           151,
	statemachine.NotFresh:          151,
}

// A RefusedError is a refusal that came over the control socket: the rules do
// not allow what was asked, and nothing has changed.
type RefusedError struct {
	Reason string // without "refused: "
	Code   int32  // of a state change (docs/drbd-wire.md 1), or of a failure (docs/drbd-cli.md 2.4); 0 when the refusal has none
}

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// Failure tells a failure of drbdsetup from a state change that was refused.
func (e *RefusedError) Failure() bool { return e.Code >= firstFailure }

// Is makes errors.Is(err, statemachine.NoUpToDateDisk) and its like hold on
// the client's side of the control socket.
func (e *RefusedError) Is(target error) bool {
	r, ok := target.(statemachine.Refusal)
	return ok && (e.Code < 0 && r.RefusalCode() == e.Code || e.Reason == string(r))
}

// A NotRunningError says that nobody serves the resource on this machine.
type NotRunningError struct{ Resource string }

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("%s is not up; start it with: urbd up %s", e.Resource, e.Resource)
}

// An AlreadyRunningError says that another process serves the resource.
type AlreadyRunningError struct {
	Resource string
	PID      int  // 0 if it is not known
	Silent   bool // it does not answer on the control socket
}

func (e *AlreadyRunningError) Error() string {
	if e.Silent && e.PID != 0 {
		return fmt.Sprintf("process %[2]d has the lock of %[1]s and does not answer on the control socket, which may have been removed: kill %[2]d ends a daemon in order; then: urbd up %[1]s", e.Resource, e.PID)
	}
	by := ""
	if e.PID != 0 {
		by = fmt.Sprintf(", served by process %d", e.PID)
	}
	return fmt.Sprintf("%[1]s is up already%[2]s; a changed configuration is taken up by: urbd adjust %[1]s; its state is shown by: urbd status %[1]s", e.Resource, by)
}
