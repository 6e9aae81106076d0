package config

// The syntax tree: what the files say, before inheritance. Options are already looked up in the table and within
// their limits.

// A tree is all files together.
type tree struct {
	global    *optionBlock
	common    *resourceTree
	resources []*resourceTree
}

// An optionBlock is one section of options.
type optionBlock struct {
	pos      Position
	settings []setting
}

// A resourceTree is one resource { } or the common { }, which has options only.
type resourceTree struct {
	pos      Position
	name     string
	blocks   map[Section]Position // where each section stands: it may stand once
	settings map[Section][]setting
	volumes  volumeSet // defaults for every host
	hosts    []*hostTree
	ignoreOn []string
	broken   bool // something of it was not understood: what seems to be missing may not be
}

// A hostTree is one "on" or "floating" section.
type hostTree struct {
	pos      Position
	names    []string
	floating bool
	address  *addressTree
	volumes  volumeSet
}

// A volumeSet is the volumes of one level: explicit ones, or the implicit volume 0, not both.
type volumeSet struct {
	list     []*volumeTree
	implicit *volumeTree // also in list
}

// find is the volume of that number, nil if there is none.
func (s *volumeSet) find(number int) *volumeTree {
	for _, v := range s.list {
		if v.number == number {
			return v
		}
	}
	return nil
}

// A volumeTree is what one level says of a volume; what it does not say is nil.
type volumeTree struct {
	pos       Position
	number    int
	device    *deviceTree
	disk      *pathTree
	meta      *metaTree
	diskBlock *Position
	settings  []setting
}

type deviceTree struct {
	pos   Position
	name  string
	minor int
}

type pathTree struct {
	pos  Position
	path string
}

type metaTree struct {
	pos  Position
	meta MetaDisk
}

type addressTree struct {
	pos    Position
	family string
	text   string // the address, checked when resolved
	port   int
}
