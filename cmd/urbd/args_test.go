package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrangeMovesOptionsToTheirPlace(t *testing.T) {
	app := &cli.App{
		Flags: []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"}}, &cli.BoolFlag{Name: "quiet"}},
		Commands: []*cli.Command{
			{Name: "primary", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}}},
			{Name: "wait", Aliases: []string{"w"}, Flags: []cli.Flag{&cli.StringFlag{Name: "timeout"}, &cli.BoolFlag{Name: "quiet"}}},
		},
	}
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"primary r0 --force", "primary --force r0"},
		{"primary --force r0", "primary --force r0"},
		{"--force primary r0", "primary --force r0"},
		{"primary r0 -c f.res", "-c f.res primary r0"},
		{"primary r0 -c=f.res r1", "-c=f.res primary r0 r1"},
		{"-c f.res primary r0 --force r1", "-c f.res primary --force r0 r1"},
		{"-c primary primary r0", "-c primary primary r0"},
		{"wait r0 --timeout 5 r1", "wait --timeout 5 r0 r1"},
		{"w r0 --timeout=5", "wait --timeout=5 r0"},
		{"wait r0 --quiet", "wait --quiet r0"},
		{"primary r0 --quiet", "--quiet primary r0"},
		{"primary -- --force", "primary -- --force"},
		{"primary r0 -- --force", "primary -- r0 --force"},
		{"primary r0 --frobnicate", "primary --frobnicate r0"},
		{"primary wait", "primary wait"},
		{"frobnicate r0 primary", "frobnicate r0 primary"},
		{"primary -", "primary -"},
	} {
		args, err := arrange(app, strings.Fields(tt.in))
		if got := strings.Join(args, " "); got != tt.want || err != nil {
			t.Errorf("arrange(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"wait r0 --timeout", "primary r0 -c", "-c"} {
		if args, err := arrange(app, strings.Fields(in)); err == nil {
			t.Errorf("arrange(%q) = %q, without an error", in, args)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	b := newBench(t)
	for line, says := range map[string]string{
		"primary r0 --timeout": "urbd: --timeout needs a value behind it\n",
		"-c":                   "urbd: -c needs a value behind it\n",
		"--bogus":              "urbd: flag provided but not defined: -bogus; see: urbd help\n",
		"-v":                   "urbd: flag provided but not defined: -v; see: urbd help\n",
		"primary --bogus r0":   "urbd: primary: flag provided but not defined: -bogus; see: urbd help primary\n",
		"help frob":            "urbd: No help topic for 'frob'",
		"version extra":        "urbd: version takes no words",
		"frobnicate r0":        "urbd: there is no command",
	} {
		b.want(line, 1, "", says)
	}
	b.want("--version", 0, "DRBD wire protocol 101", "")
	b.want("version", 0, "DRBD wire protocol 101", "")
}
