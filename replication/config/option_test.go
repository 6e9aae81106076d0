package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// try loads one resource with one line in one section of it.
func try(section Section, line string) (*Config, error) {
	head, resource := "", string(section)+" { "+line+" }"
	if section == GlobalSection {
		head, resource = "global { "+line+" }", ""
	}
	return Parse("f", []byte(head+` resource r { `+resource+`
		device minor 0; disk /dev/sdb; meta-disk internal;
		on a { address 192.0.2.1:7789; } on b { address 192.0.2.2:7789; } }`))
}

// sections is the settings of a loaded configuration.
func sections(cfg *Config) *settings {
	r := cfg.Resources[0]
	return &settings{Global: cfg.Global, Net: r.Net, Disk: r.Hosts[0].Volumes[0].Options, Options: r.Options, Startup: r.Startup}
}

// refusedNotServed reports whether the only thing wrong is that urbd does not serve the value.
func refusedNotServed(o *Option, err error) bool {
	return o.Status.Verdict == Refused && err != nil && strings.Contains(err.Error(), "is refused: "+o.Status.Reason)
}

// TestNumberLimits tries every number of the table one below, at and one above its limits.
func TestNumberLimits(t *testing.T) {
	for _, o := range Options("") {
		if o.Kind != Number {
			continue
		}
		for _, n := range []int64{o.Min - 1, o.Min, o.Max, o.Max + 1, math.MaxInt64} {
			in := n >= o.Min && n <= o.Max
			cfg, err := try(o.Section, fmt.Sprintf("%s %d;", o.Name, n))
			switch {
			case n < 0:
				if err == nil || !strings.Contains(err.Error(), "is not a number") {
					t.Errorf("%s %d: %v", o.Name, n, err)
				}
			case in && refusedNotServed(o, err):
			case in && err != nil:
				t.Errorf("%s %d: %v", o.Name, n, err)
			case in:
				if got := o.get(sections(cfg)).n; got != n {
					t.Errorf("%s %d is %d", o.Name, n, got)
				}
			case o.Clamped:
				if err != nil || len(cfg.Warnings) == 0 {
					t.Errorf("%s %d: %v, no warning", o.Name, n, err)
				} else if got := o.get(sections(cfg)).n; got != min(max(n, o.Min), o.Max) {
					t.Errorf("%s %d is clamped to %d", o.Name, n, got)
				}
			case err == nil || !strings.Contains(err.Error(), "is out of range"):
				t.Errorf("%s %d: %v", o.Name, n, err)
			}
		}
	}
}

// TestEveryValue tries every flag, word and text of the table: it lands in its field, or urbd says why not.
func TestEveryValue(t *testing.T) {
	for _, o := range Options("") {
		var values []string
		switch o.Kind {
		case Flag:
			values = []string{"yes", "no"}
		case Word:
			values = o.Words
		case Text:
			values = []string{`"x"`, `"` + strings.Repeat("x", int(o.Max)) + `"`}
		case List:
			values = []string{"a b"}
		}
		for _, v := range values {
			cfg, err := try(o.Section, o.Name+" "+v+";")
			if refusedNotServed(o, err) {
				continue
			}
			v = strings.Trim(v, `"`)
			switch {
			case o.Name == "cram-hmac-alg":
				if err == nil {
					t.Errorf("cram-hmac-alg %s was accepted", v)
				}
			case err != nil:
				t.Errorf("%s %s: %v", o.Name, v, err)
			case o.Section == HandlersSection:
				if got := cfg.Resources[0].Handlers[o.Name]; got != v {
					t.Errorf("%s %s is %q", o.Name, v, got)
				}
			case o.plain(o.get(sections(cfg))) != v:
				t.Errorf("%s %s is %q", o.Name, v, o.plain(o.get(sections(cfg))))
			}
		}
		if o.Kind == Text {
			if _, err := try(o.Section, o.Name+` "`+strings.Repeat("x", int(o.Max)+1)+`";`); err == nil {
				t.Errorf("%s of %d bytes was accepted", o.Name, o.Max+1)
			}
		}
	}
}

// TestNothingSilent: whatever urbd does not serve is said, with the option's name.
func TestNothingSilent(t *testing.T) {
	for _, o := range Options("") {
		v := map[OptionKind]string{Flag: yesNo(1 - o.Default), Number: strconv.FormatInt(o.Max, 10), Text: `"x"`, List: "a", Legacy: "1"}[o.Kind]
		if o.Kind == Word {
			v = o.Words[len(o.Words)-1]
		}
		cfg, err := try(o.Section, o.Name+" "+v+";")
		var said string
		if err != nil {
			said = err.Error()
		} else {
			said = fmt.Sprint(cfg.Warnings)
		}
		switch {
		case o.Status.Verdict != Served && (o.Status.Reason == "" || !strings.Contains(said, o.Name) || !strings.Contains(said, o.Status.Reason)):
			t.Errorf("%s %s is not served, but all that is said is %s", o.Name, v, said)
		case (o.Status.Verdict == Refused) != (err != nil) && o.Name != "cram-hmac-alg":
			t.Errorf("%s %s: verdict %d, error %v", o.Name, v, o.Status.Verdict, err)
		}
		if o.Status.Verdict != Refused || o.Kind == Text {
			continue
		}
		if _, err := try(o.Section, o.Name+" "+o.plain(o.initial())+";"); err != nil {
			t.Errorf("the default of %s is refused: %v", o.Name, err)
		}
	}
}

// TestTableAndFields: every row has a field of its own, every field a row, every default is in range.
func TestTableAndFields(t *testing.T) {
	var s settings
	rows := make(map[any]string)
	for _, o := range Options("") {
		if len(byName[o.Section]) > 64 {
			t.Fatalf("%s has more than 64 options", o.Section)
		}
		if o.Kind == Number && (o.Default < o.Min || o.Default > o.Max) {
			t.Errorf("%s: the default is out of range", o.Name)
		}
		if o.field == nil {
			if o.Kind != Legacy && o.Section != HandlersSection {
				t.Errorf("%s has no field", o.Name)
			}
			continue
		}
		p := o.field(&s)
		if rows[p] != "" {
			t.Errorf("%s and %s share a field", o.Name, rows[p])
		}
		rows[p] = o.Name
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		for j := range v.Field(i).NumField() {
			f := v.Field(i).Type().Field(j)
			if f.IsExported() && rows[v.Field(i).Field(j).Addr().Interface()] == "" {
				t.Errorf("%s has no row", f.Name)
			}
		}
	}
}

// TestCounts holds the number of options of 8.4 (docs/drbd-metadata.md 9.1), so that none is lost by accident.
func TestCounts(t *testing.T) {
	for section, want := range map[Section]int{NetSection: 29, DiskSection: 22, OptionsSection: 2, StartupSection: 6, GlobalSection: 8, HandlersSection: 12} {
		n := 0
		for _, o := range Options(section) {
			if o.Kind != Legacy {
				n++
			}
		}
		if n != want {
			t.Errorf("%s has %d options, 8.4 has %d", section, n, want)
		}
	}
}

// TestSyncer: every option of the old section is a row of another one.
func TestSyncer(t *testing.T) {
	for name, o := range syncerNames {
		if o == nil {
			t.Errorf("%s of syncer leads nowhere", name)
		}
	}
}
