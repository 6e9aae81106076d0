package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// The exit codes of urbd. Source: docs/drbd-cli.md 2.4.
const (
	exitOK         = 0
	exitUsage      = 1
	exitSyntax     = 2   // the configuration does not follow the grammar
	exitBelow      = 5   // a disk is below Outdated; waiting has timed out
	exitConfig     = 10  // the configuration is invalid; not up; the daemon refused the request
	exitRefused    = 11  // the state change is not allowed
	exitNoDisk     = 16  // no local disk
	exitNoUpToDate = 17  // no UpToDate disk within reach
	exitSystem     = 20  // everything else
	exitNoMetadata = 255 // no valid metadata, from the metadata verbs
)

// A usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// A waitError ends a wait-* verb that did not get what it waited for.
type waitError struct {
	code int
	text string
}

func (e *waitError) Error() string { return e.text }

// A failure has been reported already; what is left of it is the exit code.
type failure int

func (f failure) Error() string { return fmt.Sprintf("exit code %d", int(f)) }

// exitCode is the exit code that an error deserves.
func exitCode(err error) int {
	var (
		said    failure
		usage   usageError
		help    cli.ExitCoder // of the help command: there is no such topic
		wait    *waitError
		started *startError
		conf    *config.Error
		refused *replication.RefusedError
		used    *usedError
		notUp   *replication.NotRunningError
		running *replication.AlreadyRunningError
		verb    *replication.VerbError
		found   *replication.FoundError
		unfit   *replication.UnfitError
		unknown *unknownError
		noConf  *noConfigError
		meta    *metadata.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return int(said)
	case errors.As(err, &usage), errors.As(err, &help), errors.As(err, &verb):
		return exitUsage
	case errors.As(err, &wait):
		return wait.code
	case errors.As(err, &started):
		return started.code
	case errors.As(err, &conf):
		return configCode(conf.Kind)
	case errors.As(err, &refused):
		return refusalCode(refused)
	case errors.As(err, &used):
		return exitRefused
	case errors.As(err, &notUp), errors.As(err, &running), errors.As(err, &found), errors.As(err, &unfit), errors.As(err, &unknown), errors.As(err, &noConf):
		return exitConfig
	case errors.As(err, &meta):
		return exitNoMetadata
	}
	return exitSystem
}

func configCode(kind config.Kind) int {
	switch kind {
	case config.Syntax:
		return exitSyntax
	case config.Invalid:
		return exitConfig
	}
	return exitSystem
}

// refusalCode is drbdsetup's exit code of a refusal.
func refusalCode(r *replication.RefusedError) int {
	switch {
	case r.Failure():
		return exitConfig
	case errors.Is(r, statemachine.NoUpToDateDisk):
		return exitNoUpToDate
	case errors.Is(r, statemachine.LowerThanOutdated):
		return exitBelow
	case errors.Is(r, statemachine.NoLocalDisk):
		return exitNoDisk
	}
	return exitRefused
}

// explain is the sentence that a person reads: what went wrong with what, and what to do next. subject is the
// target that the error is about, or empty.
func explain(subject, verb string, err error) string {
	var refused *replication.RefusedError
	var conf config.Errors
	var meta *metadata.Error
	switch {
	case errors.As(err, &conf):
		return conf.Error() // names file, line and column of each
	case errors.As(err, &refused):
		return prefix(subject, refusal(subject, verb, refused))
	case errors.As(err, &meta) && meta.Field == "magic" && subject != "":
		return prefix(subject, fmt.Sprintf("%v; new metadata is made by: urbd create-md %s", err, subject))
	case errors.Is(err, context.DeadlineExceeded):
		return prefix(subject, fmt.Sprintf("%s has not ended in time (%v); look at: urbd status; --timeout gives it longer", verb, err))
	case errors.Is(err, context.Canceled):
		return prefix(subject, "interrupted")
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return prefix(subject, fmt.Sprintf("%v; urbd %s needs root, run it with sudo", err, verb))
	}
	return prefix(subject, err.Error())
}

// prefix puts the target before a text that does not begin with its resource anyway.
func prefix(subject, text string) string {
	res, _, _ := strings.Cut(subject, "/")
	if subject == "" || strings.HasPrefix(text, res+" ") {
		return text
	}
	return subject + ": " + text
}

// refusal words a refusal as drbdsetup does, and adds the next step.
func refusal(subject, verb string, r *replication.RefusedError) string {
	text := "refused: " + r.Reason
	switch {
	case r.Failure():
		text = fmt.Sprintf("Failure: (%d) %s", r.Code, r.Reason)
	case r.Code != 0:
		text = fmt.Sprintf("State change failed: (%d) %s", r.Code, r.Reason)
	}
	for _, h := range hints {
		if errors.Is(r, h.of) && (h.verb == "" || h.verb == verb) {
			return text + "; " + fill(h.next, subject)
		}
	}
	return text
}

// fill puts a target into a next step: TARGET as it was typed, RES its resource.
func fill(next, subject string) string {
	res, _, _ := strings.Cut(subject, "/")
	return strings.NewReplacer("TARGET", subject, "RES", res).Replace(next)
}

// hints are the next steps after a refusal; the first row that fits counts.
var hints = []struct {
	of   statemachine.Refusal
	verb string // empty: any
	next string // see fill
}{
	{statemachine.NoUpToDateDisk, "primary", "connect the node that has the data, or, when this node's data is the one to keep: urbd primary --force RES"},
	{statemachine.NoUpToDateDisk, "", "connect the node that has the data first: urbd connect RES"},
	{statemachine.OtherDataInUse, "", "unmount it, or end what uses it; then repeat the command"},
	{statemachine.UsersNeedDisk, "", "attach the disk, or connect the peer; or give those users up: urbd secondary RES"},
	{statemachine.LeftMeanwhile, "", "when this node is to go on without the peer, repeat the command"},
	{statemachine.PrimaryLost, "", "see that the peer is Primary no more; when this node is to go on without it, repeat the command"},
	{statemachine.TwoPrimaries, "", "make the other node Secondary first: urbd secondary RES (there)"},
	{statemachine.DeviceInUse, "", "unmount it, or end what uses it, first"},
	{statemachine.NeedConnection, "new-current-uuid", "both nodes have to be Connected, and no resync may run: urbd wait-connect RES; urbd wait-sync RES"},
	{statemachine.NeedConnection, "", "connect first: urbd connect RES; urbd wait-connect RES"},
	{statemachine.NoLocalDisk, "", "attach the disk first: urbd attach TARGET"},
	{statemachine.IsDiskless, "detach", "nothing to do"},
	{statemachine.IsDiskless, "", "attach the disk first: urbd attach TARGET"},
	{statemachine.AlreadyStandAlone, "", "nothing to do"},
	{statemachine.AlreadyAttached, "", "nothing to do; another disk is attached after: urbd detach TARGET"},
	{statemachine.AlreadyConnecting, "", "nothing to do; look at: urbd status RES"},
	{statemachine.NotFresh, "", "only two disks that are fresh from create-md skip the first copy; others are made equal by: urbd invalidate TARGET, or urbd invalidate-remote TARGET"},
	{engine.NotStandAlone, "", "disconnect first: urbd disconnect RES; two fresh disks that are Connected skip the first copy with --clear-bitmap"},
	{statemachine.DiscardOnPrimary, "", "make this node Secondary first: urbd secondary RES"},
	{replication.PausedAlready, "", "nothing to do; look at: urbd status RES"},
	{replication.NotPaused, "", "nothing to do; who does is shown by: urbd status RES"},
	{statemachine.ResyncRunning, "", "wait for it: urbd wait-sync RES"},
	{statemachine.InTransientState, "", "repeat the command"},
	{statemachine.ConcurrentChange, "", "repeat the command"},
}
