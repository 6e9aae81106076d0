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
		{"wait r0 --timeout", "wait --timeout r0"},
		{"primary -", "primary -"},
	} {
		got := strings.Join(arrange(app, strings.Fields(tt.in)), " ")
		if got != tt.want {
			t.Errorf("arrange(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
