package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urbd/urbd/replication"
)

// A layout says how much of a status is printed.
type layout struct {
	verbose    bool // also what is as usual
	statistics bool
	color      bool
}

// lineWidth is where long lines wrap, with deeper indentation.
const lineWidth = 80

// print writes a resource as drbdadm status does, with an empty line behind it.
//
//	r0 role:Primary
//	  disk:UpToDate
//	  beta role:Secondary
//	    replication:SyncSource peer-disk:Inconsistent done:12.34
//
// volume:N stands there when there are several volumes, or it is not 0; connection: when it is not Connected, and then no
// peer's volumes; replication: beyond Established; knocks: who connects and does not get in, with what it does wrong. Source: docs/drbd-cli.md 2.5, docs/drbd-metadata.md 10.4.
func (l layout) print(w io.Writer, st *replication.ResourceStatus) {
	p := paragraph{w: w}
	p.begin(0, st.Name)
	p.add(l.state("role", st.Role))
	if suspended := suspensions(st); suspended != "" {
		p.add(l.paint(red, "suspended:"+suspended))
	} else if l.verbose {
		p.add("suspended:no")
	}
	if l.verbose {
		p.add(fmt.Sprintf("pid:%d", st.PID))
	}
	if l.statistics {
		p.wrap(4, "write-ordering:"+st.WriteOrdering)
	}
	numbered := l.verbose || len(st.Devices) > 1 || len(st.Devices) == 1 && st.Devices[0].Volume != 0
	for i := range st.Devices {
		l.device(&p, &st.Devices[i], numbered)
		l.users(&p, st.Name, &st.Devices[i])
	}
	for i := range st.Connections {
		l.connection(&p, &st.Connections[i], numbered)
	}
	p.end()
	fmt.Fprintln(w)
}

func (l layout) device(p *paragraph, d *replication.DeviceStatus, numbered bool) {
	p.begin(2)
	if numbered {
		p.add(fmt.Sprintf("volume:%d", d.Volume))
	}
	if l.verbose {
		p.add(fmt.Sprintf("minor:%d", d.Minor))
	}
	p.add(l.state("disk", d.DiskState))
	if l.verbose && d.BackingDisk != "" {
		p.add("backing_dev:" + d.BackingDisk)
	}
	if l.verbose && d.Path != "" {
		p.add("device:" + d.Path)
	}
	if d.Users != "" {
		p.add(l.paint(red, "users:"+d.Users))
	}
	if d.DiskWaits != "" {
		p.wrap(6, strings.Fields(d.DiskWaits)...)
	}
	if blocked := d.Blocked; !l.statistics && blocked != "" && (l.verbose || blocked != "no") {
		p.add("blocked:" + blocked)
	}
	if l.statistics {
		p.wrap(6, fmt.Sprintf("size:%d", d.Size), fmt.Sprintf("read:%d", d.Read), fmt.Sprintf("written:%d", d.Written),
			fmt.Sprintf("al-writes:%d", d.ALWrites), fmt.Sprintf("bm-writes:%d", d.BMWrites),
			fmt.Sprintf("upper-pending:%d", d.UpperPending), fmt.Sprintf("lower-pending:%d", d.LowerPending),
			"al-suspended:no", "blocked:"+d.Blocked)
	}
}

// users says how to end it when users of a device have outlived their daemon.
func (l layout) users(p *paragraph, name string, d *replication.DeviceStatus) {
	switch d.Users {
	case "waiting":
		p.begin(4, "in use since before the daemon died; its users wait for their data. To give them up: urbd secondary "+name)
	case "refused":
		p.begin(4, "in use since before the daemon died; its users worked on other data, and get errors. Unmount "+d.Path+", or end what uses it")
	}
}

func (l layout) connection(p *paragraph, c *replication.ConnectionStatus, numbered bool) {
	p.begin(2, c.Name)
	connected := c.ConnectionState == "Connected"
	if !connected || l.verbose {
		p.add(l.state("connection", c.ConnectionState))
	}
	if connected || l.verbose {
		p.add(l.state("role", c.PeerRole))
	}
	if l.verbose || c.Congested {
		p.add("congested:" + yesNo(c.Congested))
	}
	if c.Refused != "" {
		p.wrap(6, strings.Fields("refused: "+c.Refused)...)
	}
	if l.verbose {
		for _, path := range c.Paths {
			p.wrap(6, "local:"+endpoint(path.ThisHost), "peer:"+endpoint(path.RemoteHost), "established:"+yesNo(path.Established))
		}
	}
	if l.statistics {
		p.wrap(6, fmt.Sprintf("ap-in-flight:%d", c.APInFlight), fmt.Sprintf("rs-in-flight:%d", c.RSInFlight))
	}
	if connected {
		for i := range c.PeerDevices {
			l.peerDevice(p, &c.PeerDevices[i], numbered)
		}
	}
	for i := range c.Knocks {
		l.knock(p, &c.Knocks[i])
	}
}

// knock says who does not get in, since when, and why.
func (l layout) knock(p *paragraph, k *replication.KnockStatus) {
	p.begin(4, l.paint(yellow, "knocks:"+k.Address), fmt.Sprintf("times:%d", k.Count), "since:"+k.Since.Format(time.RFC3339))
	p.wrap(8, strings.Fields(k.Reason)...)
}

func (l layout) peerDevice(p *paragraph, d *replication.PeerDeviceStatus, numbered bool) {
	p.begin(4)
	if numbered {
		p.add(fmt.Sprintf("volume:%d", d.Volume))
	}
	beyond := d.ReplicationState != "Established" && d.ReplicationState != "Off"
	if beyond || l.verbose {
		p.add(l.state("replication", d.ReplicationState))
	}
	p.add(l.state("peer-disk", d.PeerDiskState))
	if beyond {
		p.add(fmt.Sprintf("done:%.2f", d.PercentInSync))
	}
	switch paused := d.ResyncSuspended != "no" && d.ResyncSuspended != ""; {
	case l.statistics:
		p.wrap(8, "resync-suspended:"+d.ResyncSuspended)
	case paused || l.verbose:
		p.add("resync-suspended:" + d.ResyncSuspended)
	}
	if l.statistics {
		p.wrap(8, fmt.Sprintf("received:%d", d.Received), fmt.Sprintf("sent:%d", d.Sent), fmt.Sprintf("out-of-sync:%d", d.OutOfSync),
			fmt.Sprintf("pending:%d", d.Pending), fmt.Sprintf("unacked:%d", d.Unacked))
		if s := d.SyncDetails; s != nil {
			p.add(fmt.Sprintf("dbdt1:%.2f", s.RateLonger), fmt.Sprintf("eta:%.0f", s.SecondsLeft))
		}
	}
}

func endpoint(a replication.AddressStatus) string {
	if a.Family == "ipv6" {
		return fmt.Sprintf("ipv6:[%s]:%d", a.Address, a.Port)
	}
	return fmt.Sprintf("%s:%s:%d", a.Family, a.Address, a.Port)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func suspensions(st *replication.ResourceStatus) string {
	var why []string
	for _, s := range []struct {
		on   bool
		name string
	}{{st.SuspendedQuorum, "quorum"}, {st.SuspendedFencing, "fencing"}, {st.SuspendedNoData, "no-data"}, {st.SuspendedUser, "user"}} {
		if s.on {
			why = append(why, s.name)
		}
	}
	if len(why) == 0 && st.Suspended {
		return "yes"
	}
	return strings.Join(why, ",")
}

// The colours of states: what is as it should be, what passes, what needs somebody.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[1;31m"
	plain  = "\x1b[0m"
)

var goodStates = []string{"UpToDate", "Connected", "Established", "Primary"}

var badStates = []string{"Diskless", "Failed", "Inconsistent", "Outdated", "StandAlone", "DUnknown", "Unknown"}

// state is "key:Value", the value in its colour.
func (l layout) state(key, value string) string {
	colour := yellow
	switch {
	case slices.Contains(goodStates, value):
		colour = green
	case slices.Contains(badStates, value):
		colour = red
	case value == "Secondary":
		return key + ":" + value
	}
	return key + ":" + l.paint(colour, value)
}

func (l layout) paint(colour, text string) string {
	if !l.color {
		return text
	}
	return colour + text + plain
}

// A paragraph is one line that wraps. Errors of the writer are the business of whoever owns it.
type paragraph struct {
	w      io.Writer
	indent int // of lines that are wrapped
	column int
	open   bool
	bare   bool // nothing stands on the line yet
}

// begin ends the line before and starts one at a column.
func (p *paragraph) begin(indent int, words ...string) {
	p.end()
	p.open, p.bare, p.indent, p.column = true, true, indent+4, indent
	fmt.Fprint(p.w, strings.Repeat(" ", indent))
	p.add(words...)
}

// add appends words, separated by blanks, on a new line where this one is full.
func (p *paragraph) add(words ...string) {
	for _, word := range words {
		switch {
		case p.bare:
		case p.column+1+width(word) >= lineWidth:
			p.newline(p.indent)
		default:
			fmt.Fprint(p.w, " ")
			p.column++
		}
		p.put(word)
	}
}

// wrap continues on a new line at a column.
func (p *paragraph) wrap(indent int, words ...string) {
	p.indent = indent
	p.newline(indent)
	p.add(words...)
}

func (p *paragraph) newline(indent int) {
	fmt.Fprint(p.w, "\n"+strings.Repeat(" ", indent))
	p.column, p.bare = indent, true
}

func (p *paragraph) put(word string) {
	fmt.Fprint(p.w, word)
	p.column += width(word)
	p.bare = false
}

func (p *paragraph) end() {
	if p.open {
		fmt.Fprintln(p.w)
	}
	p.open = false
}

// width is how many columns a word takes; colours take none.
func width(word string) int {
	n := len(word)
	for _, c := range []string{green, yellow, red, plain} {
		n -= strings.Count(word, c) * len(c)
	}
	return n
}
