package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/urbd/urbd/replication"
)

// testdata/status holds what `urbd status` prints of what a daemon says.
//
//	define NAME      keep a status, JSON
//	print NAME [verbose] [statistics] [color]
func TestStatusText(t *testing.T) {
	known := map[string]replication.ResourceStatus{}
	datadriven.RunTest(t, "testdata/status", func(t *testing.T, d *datadriven.TestData) string {
		name := d.CmdArgs[0].Key
		switch d.Cmd {
		case "define":
			var st replication.ResourceStatus
			dec := json.NewDecoder(strings.NewReader(d.Input))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&st); err != nil {
				d.Fatalf(t, "%v", err)
			}
			known[name] = st
			return ""
		case "print":
			st, ok := known[name]
			if !ok {
				d.Fatalf(t, "no status %q", name)
			}
			l := layout{verbose: d.HasArg("verbose"), statistics: d.HasArg("statistics"), color: d.HasArg("color")}
			var b strings.Builder
			l.print(&b, &st)
			return strings.ReplaceAll(b.String(), "\x1b", "ESC")
		case "resync":
			st := known[name]
			return resyncOf(&st).String()
		}
		d.Fatalf(t, "unknown command %q", d.Cmd)
		return ""
	})
}
