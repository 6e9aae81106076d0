package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication/config"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentedCommands has the command lines of README, the example and the units looked up: verb and options are there.
func TestDocumentedCommands(t *testing.T) {
	app := (&world{}).app()
	for _, name := range []string{
		"README.md", "scripts/config/example.res.txt", "scripts/install", "scripts/systemd/urbd@.service", "scripts/systemd/urbd-shutdown@.service",
		"scripts/systemd/urbd.shutdown", "scripts/udev/65-urbd.rules", "vagrant/provision",
	} {
		lines := commandLines(document(t, name))
		if len(lines) == 0 {
			t.Errorf("%s has no command line of urbd", name)
		}
		for _, line := range lines {
			if why := unknown(app, line); why != "" {
				t.Errorf("%s: %q: there is no %s", name, strings.Join(line, " "), why)
			}
		}
	}
	for text, want := range map[string]string{"`urbd frobnicate r0`": "frobnicate", "    sudo urbd up --fast r0": "--fast", "`urbd up --no-systemd r0`": ""} {
		if got := unknown(app, commandLines(text)[0]); got != want {
			t.Errorf("%s: unknown is %q", text, got)
		}
	}
}

// commandLine is urbd with a verb, where a command line begins: in backquotes, on an indented line, in a unit or a script.
var commandLine = regexp.MustCompile("(?m)(?:`|^ {4,}|sudo |&& |; |\\|\\| |: +|/sbin/|/sbin/urbd @)urbd ([a-z][a-z-]*(?: [^`;&|\n#]*)?)")

func commandLines(text string) (lines [][]string) {
	for _, m := range commandLine.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Fields(strings.NewReplacer("[", " ", "]", " ", "|", " ", ",", " ").Replace(m[1])))
	}
	return lines
}

// unknown is the first word of a command line that urbd does not know, a verb or an option.
func unknown(app *cli.App, line []string) string {
	cmd := app.Command(line[0])
	if line[0] == "help" {
		return ""
	}
	if cmd == nil {
		return line[0]
	}
	for _, word := range line[1:] {
		name, isOption := strings.CutPrefix(word, "--")
		if isOption && !slices.ContainsFunc(slices.Concat(cmd.Flags, app.Flags), func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
			return word
		}
	}
	return ""
}

// TestReadmeNamesWhatIsNotThere looks up drbdadm's verbs of 8.4 in the table of docs/drbd-cli.md: each is one of urbd's, or README says that it is none.
func TestReadmeNamesWhatIsNotThere(t *testing.T) {
	app := (&world{}).app()
	_, table, _ := strings.Cut(document(t, "docs/drbd-cli.md"), "\n| Subcommand | 8.4 | 9 | Meaning |\n|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	_, missing, _ := strings.Cut(document(t, "README.md"), "\n## Where it differs from drbdadm on purpose\n")
	missing, _, _ = strings.Cut(missing, "\n## ")
	verbs := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[2]) != "Y" || strings.HasPrefix(strings.TrimSpace(cells[1]), "handler calls") {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(cells[1], -1) {
			verbs++
			group, _, _ := strings.Cut(m[1], "-")
			if app.Command(m[1]) == nil && !strings.Contains(missing, "`"+m[1]+"`") && !strings.Contains(missing, "`"+group+"-*`") {
				t.Errorf("urbd has no %s, and README does not say so", m[1])
			}
		}
	}
	if verbs < 60 {
		t.Errorf("%d verbs in the table", verbs)
	}
}

// TestReadmeFigures builds README's figures from what the program has.
func TestReadmeFigures(t *testing.T) {
	net, disk := config.DefaultNet(), config.DefaultDisk()
	readme := strings.Join(strings.Fields(document(t, "README.md")), " ")
	for _, text := range []string{
		fmt.Sprintf("%v seconds (`ping-int` and `ping-timeout`)", (net.PingInterval + net.PingTimeout).Seconds()),
		fmt.Sprintf("%v seconds (`timeout` times `ko-count`)", net.Timeout.Seconds()*float64(net.KOCount)),
		fmt.Sprintf("4 MiB for each of the last %d places", disk.ALExtents),
		fmt.Sprintf("at most %d MiB of it are kept", (1+logsKept)*logMegabytes),
		fmt.Sprintf("(exit codes %d, %d and %d)", exitUsage, exitSyntax, exitConfig),
		fmt.Sprintf("end with %d, as with drbdadm", exitNoMetadata),
		fmt.Sprintf("is an error (%d) and touches nothing", exitConfig),
	} {
		if !strings.Contains(readme, text) {
			t.Errorf("README does not say: %s", text)
		}
	}
	if disk.DiskTimeout != 0 || !strings.Contains(readme, "`disk-timeout` (off by default") {
		t.Errorf("disk-timeout is %v by default", disk.DiskTimeout)
	}
}
