package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the options of a command line where the cli package looks for
// them. People write "urbd primary r0 --force" and "urbd status -c f r0"; the
// package stops reading options at the first word that is none. The answer is
//
//	[options of urbd] [command] [options of the command] [--] [targets]
//
// An option that both have belongs to the command when it stands behind it.
// Unknown options stay with the command, which refuses them by name. Words
// behind "--" are targets, whatever they look like. args has no program name.
//
// The error is a usageError: an option at the end lacks its value, which would
// be taken from what stands behind its new place.
func arrange(app *cli.App, args []string) (arranged []string, err error) {
	var global, local, words []string
	var cmd *cli.Command
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			words = append(words, args[1:]...)
			break
		}
		if !isOption(arg) {
			args = args[1:]
			if cmd == nil && len(words) == 0 {
				if cmd = app.Command(arg); cmd != nil {
					continue
				}
			}
			words = append(words, arg)
			continue
		}
		n := 1
		own, flag := owner(app, cmd, arg)
		if flag != nil && takesValue(flag) && !strings.Contains(arg, "=") {
			if n = min(2, len(args)); n == 1 {
				err = usageError(fmt.Sprintf("%s needs a value behind it", arg))
			}
		}
		if own {
			global = append(global, args[:n]...)
		} else {
			local = append(local, args[:n]...)
		}
		args = args[n:]
	}
	out := global
	if cmd != nil {
		out = append(out, cmd.Name)
	}
	out = append(out, local...)
	if slices.ContainsFunc(words, isOption) {
		out = append(out, "--")
	}
	return append(out, words...), err
}

// isOption tells "-x" and "--xyz" from words; "-" alone is a word.
func isOption(arg string) bool {
	return len(arg) > 1 && arg[0] == '-'
}

// owner finds the flag that arg names. global says that it is one of urbd
// itself; flag is nil for one that nobody knows.
func owner(app *cli.App, cmd *cli.Command, arg string) (global bool, flag cli.Flag) {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	find := func(flags []cli.Flag) cli.Flag {
		i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
		if i < 0 {
			return nil
		}
		return flags[i]
	}
	if cmd != nil {
		if f := find(cmd.Flags); f != nil {
			return false, f
		}
	}
	if f := find(app.Flags); f != nil {
		return true, f
	}
	return false, nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
