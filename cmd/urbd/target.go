package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urbd/urbd/replication/config"
)

// everyVolume is the volume of a target that names a resource only.
const everyVolume = -1

// A target is what a verb works on. A word on the command line is "all", RES,
// RES/VOL or minor-N (docs/drbd-cli.md 2.1).
type target struct {
	resource string
	volume   int // or everyVolume

	// Of targets that were looked up in the configuration.
	conf        *config.Resource
	local, peer *config.Host
}

// String is the target as one types it.
func (t target) String() string {
	if t.volume == everyVolume {
		return t.resource
	}
	return fmt.Sprintf("%s/%d", t.resource, t.volume)
}

// volumes are the volumes that the target names, this host's side.
func (t target) volumes() []*config.Volume {
	var out []*config.Volume
	for i := range t.local.Volumes {
		if v := &t.local.Volumes[i]; t.volume == everyVolume || t.volume == v.Number {
			out = append(out, v)
		}
	}
	return out
}

// verbVolume is the target's volume as the control socket takes it.
func (t target) verbVolume() *int {
	if t.volume == everyVolume {
		return nil
	}
	return &t.volume
}

// parseTarget reads RES or RES/VOL.
func parseTarget(word string) (target, error) {
	name, vol, has := strings.Cut(word, "/")
	t := target{resource: name, volume: everyVolume}
	if name == "" || strings.HasPrefix(name, ".") {
		return t, usageError(fmt.Sprintf("%q is no target; write all, RES or RES/VOL", word))
	}
	if has {
		n, err := strconv.ParseUint(vol, 10, 16)
		if err != nil {
			return t, usageError(fmt.Sprintf("%q is no target: a volume is a number from 0 to 65534, as in %s/0", word, name))
		}
		t.volume = int(n)
	}
	return t, nil
}

// A chooser finds the local and the remote host section of a resource.
type chooser func(*config.Resource) (local, peer *config.Host, err error)

// configured looks words up in the configuration. "all" leaves out resources
// that have no section for this host, and says why; one that was named must have
// it.
func configured(cfg *config.Config, words []string, choose chooser) (out []target, leftOut []error, err error) {
	for _, w := range words {
		if w == "all" {
			for _, r := range cfg.Resources {
				if local, peer, err := choose(r); err == nil {
					out = append(out, target{r.Name, everyVolume, r, local, peer})
				} else {
					leftOut = append(leftOut, err)
				}
			}
			continue
		}
		t, err := lookup(cfg, w, choose)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, t)
	}
	return out, leftOut, nil
}

func lookup(cfg *config.Config, word string, choose chooser) (target, error) {
	if t, ok, err := byMinor(cfg, word, choose); ok || err != nil {
		return t, err
	}
	t, err := parseTarget(word)
	if err != nil {
		return t, err
	}
	if t.conf = cfg.Resource(t.resource); t.conf == nil {
		return t, &unknownError{t.resource, names(cfg)}
	}
	if t.local, t.peer, err = choose(t.conf); err != nil {
		return t, err
	}
	if t.volume != everyVolume && t.local.Volume(t.volume) == nil {
		return t, noVolume(t, t.local)
	}
	return t, nil
}

// resourceOf finds the resource that a word names, also through a volume of it, whichever hosts it is on.
func resourceOf(cfg *config.Config, word string, choose chooser) (*config.Resource, error) {
	if t, ok, err := byMinor(cfg, word, choose); ok || err != nil {
		return t.conf, err
	}
	t, err := parseTarget(word)
	if err != nil {
		return nil, err
	}
	r := cfg.Resource(t.resource)
	if r == nil {
		return nil, &unknownError{t.resource, names(cfg)}
	}
	if h := &r.Hosts[0]; t.volume != everyVolume && h.Volume(t.volume) == nil { // every host has the same volumes
		return nil, noVolume(t, h)
	}
	return r, nil
}

func noVolume(t target, h *config.Host) error {
	return usageError(fmt.Sprintf("%s has no volume %d; its volumes are %s", t.resource, t.volume, volumeList(h)))
}

// byMinor finds the volume of "minor-N". A resource of that name comes first.
func byMinor(cfg *config.Config, word string, choose chooser) (target, bool, error) {
	digits, ok := strings.CutPrefix(word, "minor-")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || cfg.Resource(word) != nil {
		return target{}, false, nil
	}
	for _, r := range cfg.Resources {
		local, peer, err := choose(r)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(local.Volumes, func(v config.Volume) bool { return v.Minor == n })
		if i >= 0 {
			return target{r.Name, local.Volumes[i].Number, r, local, peer}, true, nil
		}
	}
	return target{}, false, usageError(fmt.Sprintf("no volume on this host has minor %d", n))
}

// An unknownError names a resource that the configuration does not have.
type unknownError struct {
	name  string
	known []string
}

func (e *unknownError) Error() string {
	if len(e.known) == 0 {
		return fmt.Sprintf("there is no resource %q: the configuration has none at all", e.name)
	}
	return fmt.Sprintf("there is no resource %q in the configuration; there is %s", e.name, strings.Join(e.known, ", "))
}

func names(cfg *config.Config) []string {
	var out []string
	for _, r := range cfg.Resources {
		out = append(out, r.Name)
	}
	return out
}

func volumeList(h *config.Host) string {
	var out []string
	for _, v := range h.Volumes {
		out = append(out, strconv.Itoa(v.Number))
	}
	return strings.Join(out, ", ")
}
