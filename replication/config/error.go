package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// A Position is a place in a configuration file. Line and Column count from 1, columns in characters. Line 0
// means the file as a whole.
type Position struct {
	File         string
	Line, Column int
}

// String is file:line:column, or the file alone.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Kind says what is wrong, for callers that choose an exit code (docs/drbd-cli.md 2.4).
type Kind int

const (
	Syntax     Kind = iota // the text does not follow the grammar
	Invalid                // the text is well-formed, what it says is not acceptable
	Unreadable             // a file could not be read; Err holds the cause
)

// An Error is one thing wrong with a configuration, where it is, and what to do about it.
type Error struct {
	Position
	Kind Kind
	Msg  string
	Hint string // what to do next; may be empty
	Err  error  // the cause of an Unreadable file
}

// Error is "file:line:column: message (hint)".
func (e *Error) Error() string {
	s := e.Position.String() + ": " + e.Msg
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap is the error of the Source, for an Unreadable file.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all that was found wrong, in the order of the files. It is never empty when returned.
type Errors []*Error

// Error is one line per error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first *Error and errors.Is the cause of an unreadable file.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// A Warning names something that was accepted but does not do what its author may expect.
type Warning struct {
	Position
	// Note marks a remark that nobody has to act on: the option has no effect here and needs none. It is worth
	// telling where the configuration itself is looked at, or taken up.
	Note bool
	Msg  string
}

// String is "file:line:column: message".
func (w Warning) String() string { return w.Position.String() + ": " + w.Msg }

// maxErrors bounds the list: after that many the rest is more likely a consequence than a cause.
const maxErrors = 20

// maxWarnings bounds the other list.
const maxWarnings = 1000

// report collects what parsing and checking find.
type report struct {
	errs     Errors
	warnings []Warning
	said     map[Warning]bool
}

func (r *report) full() bool { return len(r.errs) >= maxErrors }

func (r *report) fail(pos Position, kind Kind, hint, format string, args ...any) {
	e := &Error{Position: pos, Kind: kind, Msg: fmt.Sprintf(format, args...), Hint: hint}
	same := func(o *Error) bool { return o.Position == pos && o.Msg == e.Msg } // inherited by several resources
	if !r.full() && !slices.ContainsFunc(r.errs, same) {
		r.errs = append(r.errs, e)
	}
}

// unreadable reports a file that from asks for. The name is in the message once.
func (r *report) unreadable(from Position, file string, err error) {
	why := err
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		why = pe.Err
	}
	if from.Line == 0 {
		r.fail(from, Unreadable, "", "cannot be read: %v", why)
	} else {
		r.fail(from, Unreadable, "", "%s cannot be read: %v", file, why)
	}
	r.errs[len(r.errs)-1].Err = err
}

// syntax reports a violation of the grammar, invalid one of the rules.
func (r *report) syntax(pos Position, hint, format string, args ...any) {
	r.fail(pos, Syntax, hint, format, args...)
}

func (r *report) invalid(pos Position, hint, format string, args ...any) {
	r.fail(pos, Invalid, hint, format, args...)
}

// warn says a thing once, however many resources inherit its cause.
func (r *report) warn(w Warning) {
	if r.said[w] || len(r.warnings) > maxWarnings {
		return
	}
	if len(r.warnings) == maxWarnings {
		w = Warning{Position: w.Position, Msg: "too many warnings, the others are not shown"}
	}
	if r.said == nil {
		r.said = make(map[Warning]bool)
	}
	r.said[w] = true
	r.warnings = append(r.warnings, w)
}

// sort puts everything in the order of the text; turn is the order of the files.
func (r *report) sort(turn map[string]int) {
	order := func(a, b Position) int {
		return cmp.Or(turn[a.File]-turn[b.File], a.Line-b.Line, a.Column-b.Column)
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return order(a.Position, b.Position) })
	slices.SortStableFunc(r.warnings, func(a, b Warning) int { return order(a.Position, b.Position) })
}

// err is nil or the collected Errors.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}
