package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/urbd/urbd/replication"
)

// A resync is how far the resyncs of a resource are, all volumes together.
type resync struct {
	state       string        // the replication state of the first volume that resyncs; empty: none does
	total, left int64         // bytes
	rate        float64       // bytes per second lately
	eta         time.Duration // until the slowest volume is done; negative when it is not known
}

// resyncOf finds the resyncs in a status.
func resyncOf(st *replication.ResourceStatus) resync {
	var r resync
	for _, conn := range st.Connections {
		for _, d := range conn.PeerDevices {
			s := d.SyncDetails
			if s == nil || d.ReplicationState == "Established" { // the last word about one that has ended
				continue
			}
			if r.state == "" {
				r.state = d.ReplicationState
			}
			r.total += s.RSTotal * 512
			r.left += min(d.OutOfSync<<10, s.RSTotal*512)
			r.rate += s.RateRecent * (1 << 20)
			r.eta = max(r.eta, time.Duration(s.SecondsLeft*float64(time.Second)))
		}
	}
	if r.rate <= 0 || strings.HasPrefix(r.state, "Paused") {
		r.eta = -1
	}
	return r
}

// String is the state in words: "SyncSource 61% 48.3 MiB/s, 0:00:12 left".
func (r resync) String() string {
	text := fmt.Sprintf("%s %d%%", r.state, r.percent())
	if r.rate > 0 {
		text += " " + rate(r.rate)
	}
	if r.eta >= 0 {
		text += ", " + clock(r.eta) + " left"
	}
	return text
}

func (r resync) percent() int64 {
	if r.total <= 0 {
		return 0
	}
	return (r.total - r.left) * 100 / r.total
}

func rate(perSecond float64) string {
	const kib, mib = 1 << 10, 1 << 20
	if perSecond < mib {
		return fmt.Sprintf("%.0f KiB/s", perSecond/kib)
	}
	return fmt.Sprintf("%.1f MiB/s", perSecond/mib)
}

// clock is a time as h:mm:ss.
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// A meter shows a resync: a bar on a terminal, elsewhere a line for every tenth of the way and for every new state.
type meter struct {
	out      io.Writer
	name     string
	terminal bool
	bar      *progressbar.ProgressBar
	total    int64
	said     string
	quiet    bool // nothing has been shown
}

func newMeter(out io.Writer, name string, terminal bool) *meter {
	return &meter{out: out, name: name, terminal: terminal, quiet: true}
}

func (m *meter) show(r resync) {
	if r.state == "" {
		return
	}
	m.quiet = false
	if m.terminal {
		m.draw(r)
		return
	}
	if step := fmt.Sprint(r.state, r.percent()/10); step != m.said {
		m.said = step
		fmt.Fprintf(m.out, "%s: %v\n", m.name, r)
	}
}

// draw moves the bar. A resync that begins again, or with more to do, gets a new one.
func (m *meter) draw(r resync) {
	if m.bar == nil || m.total != r.total {
		m.total = r.total
		m.bar = progressbar.NewOptions64(max(r.total, 1), progressbar.OptionSetWriter(m.out), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionShowBytes(false),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: ".", BarStart: "[", BarEnd: "]"}))
	}
	text := m.name + " " + r.state
	if r.rate > 0 {
		text += " " + rate(r.rate)
	}
	if r.eta >= 0 {
		text += ", " + clock(r.eta) + " left"
	}
	m.bar.Describe(text)
	// The error is the terminal's; whoever waits learns the outcome from the exit code.
	_ = m.bar.Set64(r.total - r.left)
}

// end finishes the bar, full when the resync got to its end.
func (m *meter) end(done bool) {
	if m.bar != nil {
		if done {
			m.bar.Describe(m.name + " in sync")
			_ = m.bar.Finish()
		}
		fmt.Fprintln(m.out)
		return
	}
	if done && !m.quiet {
		fmt.Fprintf(m.out, "%s: in sync\n", m.name)
	}
}
