package config

import "strconv"

// claims remembers what each host has given away, over all resources: nothing is given twice.
type claims struct {
	report *report
	taken  map[claim]Position
}

// A claim is one thing on one host.
type claim struct{ host, what string }

func newClaims(r *report) *claims {
	return &claims{report: r, taken: make(map[claim]Position)}
}

// resource claims everything that a resource uses.
func (c *claims) resource(res *Resource) {
	done := make(map[string]bool) // a name that stands twice in one resource is reported as that
	for i := range res.Hosts {
		h := &res.Hosts[i]
		hosts := h.Names
		if h.Floating && h.Address.IsValid() {
			hosts = []string{h.Address.Addr().String()}
		}
		for _, host := range hosts {
			if !done[host] {
				c.host(host, h)
			}
			done[host] = true
		}
	}
}

func (c *claims) host(host string, h *Host) {
	if h.Address.IsValid() {
		c.take(host, "address "+h.Address.String(), h.Pos)
	}
	for _, v := range h.Volumes {
		if v.Device == "" || v.Disk == "" {
			continue // reported already
		}
		c.take(host, "minor "+strconv.Itoa(v.Minor), v.Pos)
		c.take(host, "device "+v.Device, v.Pos)
		c.path(host, v.Disk, -1, v.Pos)
		if !v.MetaDisk.Internal && v.MetaDisk.Device != v.Disk { // the same: reported already
			c.path(host, v.MetaDisk.Device, v.MetaDisk.Index, v.Pos)
		}
	}
}

func (c *claims) take(host, what string, pos Position) {
	key := claim{host, what}
	if first, twice := c.taken[key]; twice {
		c.report.invalid(pos, "", "%s is used twice on host %s, first at %s", what, host, first)
		return
	}
	c.taken[key] = pos
}

// path claims a disk or file, or one slot of it: a slot goes beside other slots, not beside a use of the whole.
func (c *claims) path(host, path string, index int, pos Position) {
	whole, shared := claim{host, "disk " + path}, claim{host, "slots of " + path}
	if index < 0 {
		if first, twice := c.taken[shared]; twice {
			c.report.invalid(pos, "", "%s is used twice on host %s, first at %s", path, host, first)
			return
		}
		c.take(host, whole.what, pos)
		return
	}
	if first, twice := c.taken[whole]; twice {
		c.report.invalid(pos, "", "%s is used twice on host %s, first at %s", path, host, first)
		return
	}
	c.take(host, path+"["+strconv.Itoa(index)+"]", pos)
	if _, known := c.taken[shared]; !known {
		c.taken[shared] = pos
	}
}
