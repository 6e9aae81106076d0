package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJournalLinesCarryTheirPriority(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newJournalHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}))
	log = log.With("resource", "r0").WithGroup("g")
	log.Debug("detail", "n", 1)
	log.Info("state")
	log.Warn("redundancy is lost\n<0>not a line of its own")
	log.Error("data is at risk")
	want := `<7>level=DEBUG msg=detail resource=r0 g.n=1
<6>level=INFO msg=state resource=r0
<4>level=WARN msg="redundancy is lost\n<0>not a line of its own" resource=r0
<3>level=ERROR msg="data is at risk" resource=r0
`
	if out.String() != want {
		t.Errorf("the journal gets\n%s\nwant\n%s", &out, want)
	}
}

// A daemon whose standard error has been turned to a file writes for people, whatever the environment has inherited.
func TestOnlyTheStreamOfTheJournalGetsPriorities(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("JOURNAL_STREAM", "1:2")
	if toJournal(f) {
		t.Error("a file is taken for the journal")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	if !toJournal(f) || toJournal(&bytes.Buffer{}) {
		t.Error("the stream of the journal is not known by its device and inode")
	}
}
