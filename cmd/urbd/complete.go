package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeCommand prints the commands and the options of urbd itself.
func (w *world) completeCommand(c *cli.Context) {
	for _, cmd := range c.App.VisibleCommands() {
		fmt.Fprintln(w.out, cmd.Name)
	}
	w.completeFlags(c.App.Flags)
}

func (w *world) completeFlags(flags []cli.Flag) {
	for _, f := range flags {
		name := f.Names()[0]
		if !slices.Contains([]string{"help", "generate-bash-completion"}, name) {
			fmt.Fprintln(w.out, "--"+name)
		}
	}
}

// complete prints the words that may follow on a command line, one a line: the options of the command, and
// the targets that are not there yet.
func (w *world) complete(c *cli.Context, cmd *cli.Command) {
	w.completeFlags(cmd.Flags)
	w.completeFlags(c.App.Flags)
	if !strings.Contains(cmd.ArgsUsage, "TARGET") && cmd.ArgsUsage != "RES" {
		return
	}
	cfg, err := w.etc.load(c.String("config"))
	if err != nil {
		return // a completion has no place for an error; the command itself will say it
	}
	words := []string{"all"}
	for _, r := range cfg.Resources {
		words = append(words, r.Name)
		if len(r.Hosts[0].Volumes) > 1 {
			for _, v := range r.Hosts[0].Volumes {
				words = append(words, fmt.Sprintf("%s/%d", r.Name, v.Number))
			}
		}
	}
	for _, word := range words {
		if !slices.Contains(c.Args().Slice(), word) {
			fmt.Fprintln(w.out, word)
		}
	}
}
