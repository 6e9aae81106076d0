package statemachine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// named finds the value whose String is name; the wire's spelling is the transcript's.
func named[T fmt.Stringer](t *testing.T, name string, values ...T) T {
	t.Helper()
	i := slices.IndexFunc(values, func(v T) bool { return v.String() == name })
	if i < 0 {
		t.Fatalf("there is no %q", name)
	}
	return values[i]
}

func conn(t *testing.T, name string) Conn { return named(t, name, Conns()...) }

func role(t *testing.T, name string) Role { return named(t, name, RoleUnknown, Primary, Secondary) }

func disk(t *testing.T, name string) Disk {
	return named(t, name, Diskless, Attaching, Failed, Negotiating, Inconsistent, Outdated, DUnknown, Consistent, UpToDate)
}

// parseState reads what State.String writes.
func parseState(t *testing.T, text string) State {
	t.Helper()
	f := strings.Fields(text)
	if len(f) < 3 {
		t.Fatalf("not a state: %q", text)
	}
	roles, disks := strings.Split(f[0], "/"), strings.Split(f[2], "/")
	s := State{Role: role(t, roles[0]), Peer: role(t, roles[1]), Conn: conn(t, f[1]), Disk: disk(t, disks[0]), PeerDisk: disk(t, disks[1])}
	for _, mark := range f[3:] {
		switch mark {
		case "susp":
			s.Susp = true
		case "susp_nod":
			s.SuspNoData = true
		case "susp_fen":
			s.SuspFencing = true
		case "aftr_isp":
			s.AfterISP = true
		case "peer_isp":
			s.PeerISP = true
		case "user_isp":
			s.UserISP = true
		default:
			t.Fatalf("not a mark: %q", mark)
		}
	}
	if s.String() != text {
		t.Fatalf("%q is read as %q", text, s)
	}
	return s
}

// parseRules reads the names of what is true, and fencing and negotiated with a value.
func parseRules(t *testing.T, d *datadriven.TestData) Rules {
	t.Helper()
	var r Rules
	flags := map[string]*bool{
		"two-primaries": &r.TwoPrimaries, "verify-alg": &r.HaveVerifyAlg, "suspend-on-no-data": &r.SuspendOnNoData,
		"resolve-conflicts": &r.ResolveConflicts, "other-peer-primary": &r.OtherPeerPrimary, "open": &r.Open, "unconfirmed": &r.Unconfirmed,
		"handshaking": &r.Handshaking, "bitmap-uuid": &r.HasBitmapUUID, "new-uuid-pending": &r.NewUUIDPending,
		"consider-resync": &r.ConsiderResync,
	}
	for _, arg := range d.CmdArgs {
		switch on, ok := flags[arg.Key]; {
		case ok:
			*on = true
		case arg.Key == "fencing":
			r.Fencing = map[string]Fencing{"resource-only": ResourceOnly, "resource-and-stonith": ResourceAndStonith}[arg.Vals[0]]
		case arg.Key == "negotiated":
			r.Negotiated = disk(t, arg.Vals[0])
		default:
			t.Fatalf("%s: there is no rule %q", d.Pos, arg.Key)
		}
	}
	return r
}

// args are those of one event in a transcript.
type args struct {
	t *testing.T
	d *datadriven.TestData
}

func (a args) has(key string) bool { return a.d.HasArg(key) }

func (a args) text(key string) string {
	var v string
	a.d.MaybeScanArgs(a.t, key, &v)
	return v
}

func (a args) disk(key string) Disk {
	if !a.has(key) {
		return Diskless
	}
	return disk(a.t, a.text(key))
}

var changeNames = map[string]Change{
	"promote": PromoteChange, "forced-promote": ForcedPromoteChange, "invalidate": StartingSyncTChange,
	"invalidate-remote": StartingSyncSChange, "verify": VerifyChange, "detach": DetachChange, "remove": RemoveVolumeChange,
	"disconnect": DisconnectChange, "disconnect-peer": DisconnectPeerChange, "disconnect-self": DisconnectSelfChange,
}

// change is named, or two hexadecimal words with a slash.
func (a args) change() Change {
	name := a.text("change")
	if c, ok := changeNames[name]; ok {
		return c
	}
	var c Change
	if _, err := fmt.Sscanf(name, "%x/%x", &c.Mask, &c.Val); err != nil {
		a.t.Fatalf("%s: not a change: %q", a.d.Pos, name)
	}
	return c
}

// peerState is the packet; its word is the input of the command.
func (a args) peerState() PeerState {
	ev := PeerState{Word: parseState(a.t, a.d.Input), UUIDsKnown: !a.has("no-uuids"),
		Granted: !a.has("not-granted"), MayBeAhead: !a.has("protocol-c")}
	a.d.MaybeScanArgs(a.t, "bits", &ev.OOSBits)
	if a.has("inconsistent") {
		ev.UUIDFlags = FlagInconsistent
	}
	switch name := a.text("decision"); name {
	case "":
	case "split-brain":
		ev.Decision.Err = &HandshakeError{Reason: SplitBrain, Rule: 90}
	case "peer-dry-run":
		ev.Decision.Err = &HandshakeError{Reason: DryRun, PeerOnly: true}
	default:
		ev.Decision.Target = conn(a.t, name)
	}
	ev.Decision.FullSync = a.has("full")
	return ev
}

// eventNames are the commands of a transcript.
var eventNames = map[string]func(args) Event{
	"connect":          func(a args) Event { return Connect{a.has("discard-my-data")} },
	"receiver-started": func(args) Event { return ReceiverStarted{} },
	"sockets-up":       func(args) Event { return SocketsUp{} },
	"peer-lost":        func(a args) Event { return PeerLost{conn(a.t, a.text("why"))} },
	"refused":          func(a args) Event { return Refused{errors.New(a.text("why"))} },
	"cleaned":          func(args) Event { return Cleaned{} },
	"disconnect":       func(a args) Event { return Disconnect{a.has("force"), a.has("idle")} },
	"promote":          func(a args) Event { return Promote{a.has("force")} },
	"demote":           func(args) Event { return Demote{} },
	"peer-reply": func(a args) Event {
		ev := PeerReply{Change: a.change()}
		a.d.ScanArgs(a.t, "code", &ev.Code)
		return ev
	},
	"peer-request":            func(a args) Event { return PeerRequest{a.change(), a.has("connection"), a.has("crossing")} },
	"peer-state":              func(a args) Event { return a.peerState() },
	"attach":                  func(args) Event { return Attach{} },
	"attached":                func(a args) Event { return Attached{a.disk("disk"), a.disk("peer")} },
	"attach-failed":           func(args) Event { return AttachFailed{} },
	"detach":                  func(a args) Event { return Detach{a.has("force")} },
	"disk-failed":             func(a args) Event { return DiskFailed{a.has("pass-on")} },
	"detach-done":             func(args) Event { return DetachDone{} },
	"outdate":                 func(args) Event { return Outdate{} },
	"fenced":                  func(a args) Event { return Fenced{!a.has("nothing"), a.disk("peer")} },
	"own-bitmap-sent":         func(a args) Event { return OwnBitmapSent{a.has("peer-received")} },
	"peer-bitmap":             func(a args) Event { return PeerBitmap{a.has("own-sent")} },
	"sync-uuid-received":      func(args) Event { return SyncUUIDReceived{} },
	"consent-heard":           func(args) Event { return ConsentHeard{} },
	"bits-set":                func(a args) Event { return BitsSet{a.has("failed")} },
	"resync-done":             func(a args) Event { return ResyncDone{a.has("failed")} },
	"pause":                   func(a args) Event { return Pause{!a.has("off")} },
	"after-pause":             func(a args) Event { return AfterPause{!a.has("off")} },
	"grown":                   func(a args) Event { return Grown{a.has("source")} },
	"congested":               func(args) Event { return Congested{} },
	"decongested":             func(args) Event { return Decongested{} },
	"invalidate":              func(args) Event { return Invalidate{} },
	"invalidate-remote":       func(args) Event { return InvalidateRemote{} },
	"skip-initial-sync":       func(a args) Event { return SkipInitialSync{a.has("fresh")} },
	"peer-skips-initial-sync": func(a args) Event { return PeerSkipsInitialSync{a.has("fresh")} },
	"verify":                  func(args) Event { return Verify{} },
	"verify-done":             func(args) Event { return VerifyDone{} },
	"remove-volume":           func(args) Event { return RemoveVolume{} },
	"suspend-io":              func(args) Event { return SuspendIO{} },
	"resume-io":               func(args) Event { return ResumeIO{} },
}

// TestTranscripts runs the stories in testdata/*.txt: "state" and "rules" set the scene, every other
// command is an event. What is shown is the whole state, the refusal, and every effect.
func TestTranscripts(t *testing.T) {
	used := map[string]bool{}
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s, r := Initial, Rules{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "state":
				s = parseState(t, d.Input)
				if s != s.Sanitise() {
					t.Fatalf("%s: %v would be corrected to %v", d.Pos, s, s.Sanitise())
				}
				return "ok\n"
			case "rules":
				r = parseRules(t, d)
				return "ok\n"
			}
			event, ok := eventNames[d.Cmd]
			if !ok {
				t.Fatalf("%s: there is no event %q", d.Pos, d.Cmd)
			}
			used[d.Cmd] = true
			next, do, err := s.Step(event(args{t, d}), r)
			s = next
			return answer(next, do, err)
		})
	})
	for name := range eventNames {
		if !used[name] {
			t.Errorf("no story has the event %q", name)
		}
	}
}

// answer is one step's outcome in a transcript.
func answer(next State, do []Effect, err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", next)
	if err != nil {
		fmt.Fprintf(&b, "! %v\n", err)
	}
	for _, e := range do {
		fmt.Fprintf(&b, "  %s\n", EffectString(e))
	}
	return b.String()
}
