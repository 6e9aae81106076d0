package main

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// A library that knows nothing of priorities gets one.
func TestLinesOfLibrariesHaveAPriority(t *testing.T) {
	before, flags, out := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetFlags(flags)
		log.SetOutput(out)
	})
	var journal bytes.Buffer
	librariesLogTo(slog.New(newJournalHandler(&journal, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
	log.Printf("http: panic serving @: a bug\ngoroutine 7")
	if want := "<4>level=WARN msg=\"http: panic serving @: a bug\\ngoroutine 7\"\n"; journal.String() != want {
		t.Errorf("the journal gets %q, not %q", &journal, want)
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

// What the daemon and the commands of its unit say beside the log has a priority too: without one the unit has it taken for what
// a crash leaves. A configuration that is warned about is no error.
func TestWarningsOfTheConfigurationAreNoErrors(t *testing.T) {
	b := newBench(t)
	b.write(`resource r0 { net { cram-hmac-alg sha1; shared-secret x; } device minor 0; disk DIR/a.img; meta-disk internal;
		on alpha { address 192.0.2.1:1; } on beta { address 192.0.2.2:1; } }`)
	if err := os.Chmod(b.conf, 0o644); err != nil {
		t.Fatal(err)
	}
	warned := "<4>urbd: warning: " + b.conf
	for line, want := range map[string][]string{
		"dump r0":      {warned},
		"down r0 r9":   {warned, "<3>urbd: there is no resource"},
		"run r0 r1":    {"<3>urbd: r0: run serves one"},
		"run r0/0/0":   {"<3>urbd: "},
		"nonsense":     {"<3>urbd: there is no command"},
		"down":         {"<3>urbd: down needs a target"},
		"status r0":    {"<3>urbd: r0"},
		"primary r0/1": {"<3>urbd: r0 has no volume 1"},
	} {
		errs, err := os.Create(filepath.Join(t.TempDir(), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		defer errs.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(errs.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
		b.err = errs
		b.urbd(line)
		got, err := os.ReadFile(errs.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range want {
			if !strings.Contains(string(got), want) {
				t.Errorf("urbd %s says %q, not %q", line, got, want)
			}
		}
		for line := range strings.Lines(string(got)) {
			if !regexp.MustCompile(`^<[3-7]>.`).MatchString(line) {
				t.Errorf("%q has no priority", line)
			}
		}
	}
}
