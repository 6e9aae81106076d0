package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// journalPriorities are the levels from which on a record has a priority of syslog(3), which the journal takes from the
// beginning of a line ("<4>", sd-daemon(3)). The first that fits counts.
var journalPriorities = [...]struct {
	from     slog.Level
	priority int
}{{slog.LevelError, 3}, {slog.LevelWarn, 4}, {slog.LevelInfo, 6}, {slog.Level(-1 << 31), 7}}

// journalPrefix is what a line of a level begins with for the journal.
func journalPrefix(l slog.Level) string {
	for _, p := range journalPriorities {
		if l >= p.from {
			return fmt.Sprintf("<%d>", p.priority)
		}
	}
	panic("there is no level below the lowest")
}

// say writes for a person what is no record of the log. In the journal of a unit each line has its priority: one without would
// be taken for what a crash leaves.
func (w *world) say(level slog.Level, text string) {
	if level == slog.LevelWarn {
		text = "warning: " + text
	}
	text = "urbd: " + strings.TrimSuffix(text, "\n")
	if toJournal(w.err) {
		prefix := journalPrefix(level)
		text = prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
	}
	w.printing.Lock()
	defer w.printing.Unlock()
	fmt.Fprintln(w.err, text)
}

// tell prints a line of what a verb is for.
func (w *world) tell(format string, args ...any) {
	w.printing.Lock()
	defer w.printing.Unlock()
	fmt.Fprintf(w.out, format+"\n", args...)
}

// A journalHandler writes records for the journal: a text handler for each priority.
type journalHandler [len(journalPriorities)]slog.Handler

func newJournalHandler(w io.Writer, opt *slog.HandlerOptions) journalHandler {
	var h journalHandler
	for i, p := range journalPriorities {
		h[i] = slog.NewTextHandler(prefixed{journalPrefix(p.from), w}, opt)
	}
	return h
}

// prefixed writes each record, which comes in one call, behind a prefix in one call.
type prefixed struct {
	prefix string
	w      io.Writer
}

func (p prefixed) Write(record []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.prefix), record...))
	return max(n-len(p.prefix), 0), err
}

func (h journalHandler) Enabled(ctx context.Context, l slog.Level) bool { return h[0].Enabled(ctx, l) }

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	for i, p := range journalPriorities {
		if r.Level >= p.from {
			return h[i].Handle(ctx, r)
		}
	}
	return nil
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for i := range h {
		h[i] = h[i].WithAttrs(attrs)
	}
	return h
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	for i := range h {
		h[i] = h[i].WithGroup(name)
	}
	return h
}

// toJournal reports whether what is written to f goes to the journal, whose stream systemd names by device and inode.
func toJournal(f io.Writer) bool {
	file, ok := f.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(int(file.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// withoutTime leaves the time to the journal, which has its own clock.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
