package config

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// A value is what an option was given: n for a Flag and a Number, text for a Word and a Text, names for a List.
type value struct {
	n     int64
	text  string
	names []string
}

// A setting is one option as it stands in a file.
type setting struct {
	opt   *Option
	value value
	pos   Position // of the option's name
	at    Position // of its value, or of the name if it has none
	wrong bool     // its value was reported: it stands in the file all the same, and hides what it would have hidden
}

// parseNumber reads digits with at most one suffix as a count of units. problem says why it cannot, empty if it
// can; a number too large to hold is math.MaxInt64, which is out of every range.
func parseNumber(u Unit, text string) (n int64, problem string) {
	digits := strings.TrimRight(text, "KkMmGgs")
	if digits == "" || strings.Trim(digits, "0123456789") != "" || len(text)-len(digits) > 1 {
		return 0, "is not a number"
	}
	factor := uint64(1)
	switch text[len(digits):] {
	case "K", "k":
		factor = 1 << 10
	case "M", "m":
		factor = 1 << 20
	case "G", "g":
		factor = 1 << 30
	case "s":
		if u.size == 0 {
			return 0, "has the suffix s, which means sectors of 512 bytes and has no meaning here"
		}
		factor = 512
	}
	v, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return math.MaxInt64, ""
	}
	hi, lo := bits.Mul64(v, factor)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64, ""
	}
	if len(digits) < len(text) && u.size > 1 {
		lo = (lo + uint64(u.size) - 1) / uint64(u.size)
	}
	return int64(lo), ""
}

// formatNumber is the shortest text that parseNumber turns into n.
func formatNumber(u Unit, n int64) string {
	suffixes := []struct {
		name string
		size int64
	}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}
	for _, s := range suffixes {
		if u.size > 0 && n > 0 && n <= math.MaxInt64/u.size && n*u.size%s.size == 0 {
			return strconv.FormatInt(n*u.size/s.size, 10) + s.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// read checks what stands behind an option's name and returns its value. Everything wrong is reported at the
// place of the value.
func (o *Option) read(args []token, at Position, r *report) (v value, ok bool) {
	switch o.Kind {
	case Flag:
		return o.readFlag(args, at, r)
	case Legacy:
		return v, true
	case List:
		for _, a := range args {
			v.names = append(v.names, a.text)
		}
		return v, true
	}
	v.text = args[0].text
	switch o.Kind {
	case Number:
		return o.readNumber(v.text, at, r)
	case Word:
		if !slices.Contains(o.Words, v.text) {
			r.invalid(at, hintFor(v.text, o.Words, "one of "+strings.Join(o.Words, ", ")), "%s has no value %q", o.Name, v.text)
			return v, false
		}
	case Text:
		if int64(len(v.text)) > o.Max {
			r.invalid(at, "", "%s is longer than %d bytes", o.Name, o.Max)
			return v, false
		}
	}
	return v, true
}

func (o *Option) readFlag(args []token, at Position, r *report) (value, bool) {
	if len(args) == 0 || args[0].text == "yes" {
		return value{n: 1}, true
	}
	if args[0].text != "no" {
		r.syntax(at, "", "%s is yes or no, not %q", o.Name, args[0].text)
		return value{}, false
	}
	return value{}, true
}

func (o *Option) readNumber(text string, at Position, r *report) (value, bool) {
	n, problem := parseNumber(o.Unit, text)
	switch {
	case problem != "":
		r.syntax(at, o.rangeText(), "%s: %q %s", o.Name, text, problem)
		return value{}, false
	case n >= o.Min && n <= o.Max:
		return value{n: n}, true
	case o.Clamped:
		near := min(max(n, o.Min), o.Max)
		r.warn(Warning{Position: at, Msg: o.Name + " " + text + " is out of range, " + strconv.FormatInt(near, 10) + " is used; " + o.rangeText()})
		return value{n: near}, true
	}
	r.invalid(at, o.rangeText(), "%s %s is out of range", o.Name, text)
	return value{}, false
}

// rangeText is "1..600 tenths of a second, default 60".
func (o *Option) rangeText() string {
	s := strconv.FormatInt(o.Min, 10) + ".." + strconv.FormatInt(o.Max, 10)
	if o.Unit.Name != "" {
		s += " " + o.Unit.Name
	}
	return s + ", default " + strconv.FormatInt(o.Default, 10)
}

// initial is the value of an option that nobody gave.
func (o *Option) initial() value {
	switch o.Kind {
	case Word:
		return value{text: o.Words[0]}
	default:
		return value{n: o.Default}
	}
}

// plain is a value as the Serves column of the table spells it.
func (o *Option) plain(v value) string {
	switch o.Kind {
	case Flag:
		return yesNo(v.n)
	case Number:
		return strconv.FormatInt(v.n, 10)
	case List:
		return strings.Join(v.names, " ")
	default:
		return v.text
	}
}

func yesNo(n int64) string {
	if n != 0 {
		return "yes"
	}
	return "no"
}
