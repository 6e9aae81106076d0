// Package fuzztest is what the fuzz targets of the tree have in common.
package fuzztest

import (
	"flag"
	"testing"
)

// minimise is how many executions Go may spend on making an input smaller.
const minimise = "50x"

// Begin is the first line of every fuzz target. Go makes each input that covers something new smaller before it keeps
// it, for up to a minute, in which nothing else is tried: with inputs of some hundred bytes that is nearly all
// of the time, and a few executions a second are left. An explicit -fuzzminimizetime counts.
func Begin(f *testing.F) {
	f.Helper()
	const name = "test.fuzzminimizetime"
	given := false
	flag.Visit(func(fl *flag.Flag) { given = given || fl.Name == name })
	if given {
		return
	}
	if err := flag.Set(name, minimise); err != nil {
		f.Fatal(err)
	}
}
