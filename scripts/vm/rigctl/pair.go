package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urbd/urbd/scripts/vm"
)

const pairHelp = `  alpha CMD…, beta CMD…      run a shell command in a node
  alpha, beta                a shell in a node; its end leads back here
  cut, join                  pull the cable out of both nodes, plug it in
  netem NODE ARGS…           degrade what NODE sends: netem alpha delay 20ms; netem alpha: good again
  power-cut NODE             as a power failure does
  shutdown NODE, boot NODE
  console NODE               what the node's kernel said
  quit
`

// pair gives a person two nodes, and words for what can happen to them.
func pair(ctx context.Context, o *options) (err error) {
	k, _, err := o.kernel()
	if err != nil {
		return err
	}
	scratch, remove, err := vm.Scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	c, err := o.config(ctx, k, scratch)
	if err != nil {
		return err
	}
	beta := c
	beta.Disks = nil
	for i, d := range c.Disks {
		if d.Size == 0 {
			return fmt.Errorf("--disk %s: two nodes cannot share a file; give a size", d.Path)
		}
		beta.Disks = append(beta.Disks, vm.Disk{Path: filepath.Join(scratch, fmt.Sprintf("beta%d", i)), Size: d.Size})
	}
	p, err := vm.BootPair(ctx, c, beta)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	progress("alpha 10.77.0.1 and beta 10.77.0.2 run Linux %s\n%s", p.Alpha.Release(), strings.TrimRight(pairHelp, "\n"))
	return converse(ctx, p)
}

// converse reads words until the end of the input. What fails is said and
// nothing ends by it.
func converse(ctx context.Context, p *vm.Pair) error {
	in := newInput()
	for {
		fmt.Fprint(os.Stderr, "pair> ")
		line, err := in.line(ctx.Done())
		if err != nil {
			return nil // no more words, or told to end
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" || words[0] == "exit" {
			return nil
		}
		if err := obey(ctx, p, in, words); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

func obey(ctx context.Context, p *vm.Pair, in *input, words []string) error {
	nodes := map[string]*vm.Node{"alpha": p.Alpha, "beta": p.Beta}
	if node := nodes[words[0]]; node != nil {
		if len(words) == 1 {
			_, err := interact(ctx, node, in)
			return err
		}
		return pairCommand(ctx, node, strings.Join(words[1:], " "))
	}
	switch words[0] {
	case "cut":
		return p.CutWire()
	case "join":
		return p.JoinWire()
	case "help":
		fmt.Print(pairHelp)
		return nil
	}
	if len(words) < 2 || nodes[words[1]] == nil {
		return fmt.Errorf("%q: unknown, or without a node's name\n%s", strings.Join(words, " "), pairHelp)
	}
	node := nodes[words[1]]
	switch words[0] {
	case "netem":
		return node.Netem(ctx, 0, words[2:]...)
	case "power-cut":
		_, _, err := node.PowerCut()
		return err
	case "shutdown":
		return node.Shutdown(ctx)
	case "boot":
		return node.BootAgain(ctx)
	case "console":
		fmt.Print(node.Console())
		return nil
	}
	return fmt.Errorf("unknown word %q\n%s", words[0], pairHelp)
}

func pairCommand(ctx context.Context, node *vm.Node, script string) error {
	proc, err := node.Start(ctx, vm.Cmd{Argv: []string{"sh", "-c", script}, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	code, err := proc.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}
