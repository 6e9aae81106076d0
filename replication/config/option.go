package config

import (
	"slices"
	"time"
)

// Section is a block of options in the file.
type Section string

const (
	GlobalSection   Section = "global"
	NetSection      Section = "net"
	DiskSection     Section = "disk"
	OptionsSection  Section = "options"
	StartupSection  Section = "startup"
	HandlersSection Section = "handlers"
	syncerSection   Section = "syncer" // old: its options are rows of the other sections
)

// OptionKind is the type of an option's value.
type OptionKind int

const (
	Flag   OptionKind = iota // "name;" or "name yes|no;"
	Number                   // within Min..Max of Unit
	Word                     // one of Words
	Text                     // at most Max bytes
	List                     // one or more names
	Legacy                   // accepted with any value and dropped, as 8.4 does
)

// A Unit is the meaning of a bare number.
type Unit struct {
	Name string
	// scale turns a count of units into what the typed field holds: bytes, nanoseconds or the count itself.
	scale int64
	// size is the unit in bytes if a suffix K, M, G or s in the text stands for bytes (converted, rounding up),
	// 0 if K, M and G merely multiply.
	size int64
}

// The units of 8.4. Source: docs/drbd-metadata.md 9.1.
var (
	count   = Unit{"", 1, 0}
	bytes   = Unit{"bytes", 1, 1}
	kbytes  = Unit{"KiB", 1 << 10, 1 << 10}
	sectors = Unit{"sectors of 512 bytes", 512, 512}
	seconds = Unit{"seconds", int64(time.Second), 0}
	tenths  = Unit{"tenths of a second", int64(time.Second / 10), 0}
	pages   = Unit{"pages of 4 KiB", 1, 0}
	extents = Unit{"extents of 4 MiB", 1, 0}
)

// An Option is one row of the table: all there is to know about one option.
type Option struct {
	Name    string
	Section Section
	Kind    OptionKind
	Unit    Unit     // of a Number
	Min     int64    // of a Number, in Unit
	Max     int64    // of a Number, in Unit; of a Text, in bytes
	Default int64    // of a Number, in Unit; of a Flag, 0 or 1
	Words   []string // of a Word; the first is the default
	Clamped bool     // a Number out of range is moved to the limit with a warning, as 8.4 does
	Status  Status

	field func(*settings) any // pointer to the typed field
	bit   int                 // place in its section
}

// settings is one of every section: where the rows of the table put their values.
type settings struct {
	Global  Global
	Net     Net
	Disk    Disk
	Options ResourceOptions
	Startup Startup
}

// Verdict is what urbd does with an option.
type Verdict int

const (
	Served  Verdict = iota // does what 8.4 does
	Noted                  // has no effect here and needs none
	Warned                 // has no effect yet; harmless
	Refused                // would change safety or meaning: the configuration is not accepted
)

// A Status is the served-column of the table. Values in Serves are served whatever the verdict says.
type Status struct {
	Verdict Verdict
	Serves  []string
	Reason  string
}

// served, note, warn and refuse fill the column; to flip an option, change the word in its row. A refused option
// is accepted with its default value, or with one of values if given.
var served = Status{}

func note(reason string) Status { return Status{Verdict: Noted, Reason: reason} }

func warn(reason string, values ...string) Status {
	return Status{Verdict: Warned, Serves: values, Reason: reason}
}

func refuse(reason string, values ...string) Status {
	return Status{Verdict: Refused, Serves: values, Reason: reason}
}

type field = func(*settings) any

func flag(name string, def bool, st Status, f field) Option {
	o := Option{Name: name, Kind: Flag, Status: st, field: f}
	if def {
		o.Default = 1
	}
	return o
}

func number(name string, u Unit, min, max, def int64, st Status, f field) Option {
	return Option{Name: name, Kind: Number, Unit: u, Min: min, Max: max, Default: def, Status: st, field: f}
}

// clamped is a number whose range the file may leave.
func clamped(o Option) Option { o.Clamped = true; return o }

func word(name string, words []string, st Status, f field) Option {
	return Option{Name: name, Kind: Word, Words: words, Status: st, field: f}
}

func text(name string, max int64, st Status, f field) Option {
	return Option{Name: name, Kind: Text, Max: max, Status: st, field: f}
}

func list(name string, st Status, f field) Option {
	return Option{Name: name, Kind: List, Max: maxText, Status: st, field: f}
}

func legacy(name string) Option {
	return Option{Name: name, Kind: Legacy, Status: note("accepted and dropped, as 8.4 does")}
}

// Options are the rows of one section, in the order of the table; all sections if it is empty.
func Options(section Section) []*Option {
	var out []*Option
	for _, o := range table {
		if section == "" || o.Section == section {
			out = append(out, o)
		}
	}
	return out
}

// lookup finds the row that name means in a section, and whether name is its old negative ("no-tcp-cork").
func lookup(section Section, name string) (opt *Option, negated bool) {
	if section == syncerSection {
		return syncerNames[name], false
	}
	if o := byName[section][name]; o != nil {
		return o, false
	}
	if slices.Contains(negatives, name) {
		o := byName[section][name[len("no-"):]]
		return o, o != nil
	}
	if section == HandlersSection && name == "outdate-peer" {
		return byName[HandlersSection]["fence-peer"], false
	}
	return nil, false
}

// negatives are the old spellings of "... no;".
var negatives = []string{"no-disk-barrier", "no-disk-flushes", "no-disk-drain", "no-md-flushes", "no-tcp-cork"}

var (
	table       = join()
	byName      = index(table)
	syncerNames = syncer()
)

func join() []*Option {
	var out []*Option
	add := func(s Section, rows []Option) {
		for i := range rows {
			rows[i].Section, rows[i].bit = s, i
			out = append(out, &rows[i])
		}
	}
	add(GlobalSection, globalOptions)
	add(NetSection, netOptions)
	add(DiskSection, diskOptions)
	add(OptionsSection, resourceOptions)
	add(StartupSection, startupOptions)
	add(HandlersSection, handlerOptions)
	return out
}

func index(rows []*Option) map[Section]map[string]*Option {
	out := make(map[Section]map[string]*Option)
	for _, o := range rows {
		if out[o.Section] == nil {
			out[o.Section] = make(map[string]*Option)
		}
		out[o.Section][o.Name] = o
	}
	return out
}

// syncer is the old section that 8.4 distributes over the others.
func syncer() map[string]*Option {
	out := map[string]*Option{
		"rate":  byName[DiskSection]["resync-rate"],
		"after": byName[DiskSection]["resync-after"],
	}
	for _, name := range []string{"al-extents", "c-plan-ahead", "c-delay-target", "c-fill-target", "c-max-rate", "c-min-rate"} {
		out[name] = byName[DiskSection][name]
	}
	for _, name := range []string{"verify-alg", "csums-alg", "use-rle"} {
		out[name] = byName[NetSection][name]
	}
	for _, name := range []string{"cpu-mask", "on-no-data-accessible"} {
		out[name] = byName[OptionsSection][name]
	}
	return out
}
