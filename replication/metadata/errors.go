package metadata

import "fmt"

// An Error says why metadata is not usable. Nothing has been changed.
type Error struct {
	Field  string // the field or area at fault, in DRBD's spelling
	Reason string
	Hint   string // what a person can do, or empty

	absent bool
}

// Absent says that there is no metadata at all, of no format.
func (e *Error) Absent() bool { return e.absent }

func (e *Error) Error() string {
	s := e.Reason
	if !e.absent {
		s = "metadata: " + e.Field + ": " + s
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func bad(field, hint, format string, args ...any) error {
	return &Error{Field: field, Reason: fmt.Sprintf(format, args...), Hint: hint}
}
