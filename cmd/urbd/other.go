package main

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication/config"
)

// version is set by scripts/install from the checkout.
var version = "development"

//go:embed completion.bash
var bashCompletion string

func (w *world) otherCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "dump", Usage: "print the configuration as urbd understands it", ArgsUsage: "[TARGET...]", Category: "OTHER",
			Action: timed(shortly, w.dump),
		},
		{
			Name: "secret", Usage: "print a fresh shared-secret, for both nodes of a resource", Category: "OTHER",
			Action: w.secret,
		},
		{
			Name: "version", Usage: "print the version", Category: "OTHER",
			Action: w.printVersion,
		},
		{
			Name: "udev", Usage: "print the names of a block device, for the udev rule", ArgsUsage: "ublkbN", Category: "OTHER", Hidden: true,
			Action: w.udev,
		},
		{
			Name: "completion", Usage: "print the completion script of a shell", ArgsUsage: "bash", Category: "OTHER", Hidden: true,
			Action: func(c *cli.Context) error {
				if c.Args().First() != "bash" {
					return usageError("there is completion for bash: urbd completion bash")
				}
				_, err := fmt.Fprint(w.out, bashCompletion)
				return err
			},
		},
	}
}

// dump prints the whole configuration, or the resources named.
func (w *world) dump(c *cli.Context) error {
	cfg, err := w.load(c)
	if err != nil {
		return err
	}
	if c.NArg() == 0 || c.Args().First() == "all" {
		return w.dumpAll(cfg)
	}
	choose, err := w.chooser(c)
	if err != nil {
		return err
	}
	only := *cfg
	only.Resources = nil
	for _, word := range c.Args().Slice() {
		r, err := resourceOf(cfg, word, choose)
		if err != nil {
			return err
		}
		only.Resources = append(only.Resources, r)
	}
	return w.dumpAll(&only)
}

func (w *world) dumpAll(cfg *config.Config) error {
	for _, r := range cfg.Resources {
		w.warnExposed(r.Name, r.Exposed())
	}
	return config.Dump(w.out, cfg)
}

// warnExposed says that anybody can be the peer of a resource; exposed is empty where that is not so.
func (w *world) warnExposed(resource, exposed string) {
	if exposed != "" {
		w.say(slog.LevelWarn, resource+": "+exposed)
	}
}

// secret prints what no one can guess: 260 random bits in 52 characters, of which none needs quotes. The driver takes 63.
func (w *world) secret(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError(fmt.Sprintf("secret takes no words, and here is %q", c.Args().First()))
	}
	_, err := fmt.Fprintln(w.out, rand.Text()+rand.Text())
	return err
}

func (w *world) printVersion(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError(fmt.Sprintf("version takes no words, and here is %q", c.Args().First()))
	}
	_, err := fmt.Fprintln(w.out, versionText())
	return err
}

// versionText names the program and what it speaks.
func versionText() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "development" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v += " " + s.Value[:12]
			}
		}
	}
	return fmt.Sprintf("urbd %s (%s %s/%s)\nDRBD wire protocol 101, metadata v08", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

var ublkName = regexp.MustCompile(`^ublkb([0-9]{1,7})$`)

// udev prints what drbdsetup udev does for its devices; nothing for devices that are not ours. It asks nobody and so
// cannot wait: the kernel waits for udev while a device appears.
func (w *world) udev(c *cli.Context) error {
	name := ublkName.FindStringSubmatch(c.Args().First())
	if name == nil {
		return usageError("udev needs the kernel's name of a device: urbd udev ublkb0")
	}
	minor, err := strconv.Atoi(name[1])
	if err != nil {
		return err
	}
	t, ok := deviceNames{"/dev", runDir(c)}.owner(minor)
	if !ok {
		return nil
	}
	fmt.Fprintf(w.out, "DEVICE=%s\nSYMLINK_BY_RES=%s\n", name[0], symlinkByRes(t.resource, t.volume))
	return nil
}
