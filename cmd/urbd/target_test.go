package main

import "testing"

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		word string
		name string
		vol  int
		ok   bool
	}{
		{"r0", "r0", everyVolume, true},
		{"r0/0", "r0", 0, true},
		{"r0/65534", "r0", 65534, true},
		{"r0/65536", "", 0, false},
		{"r0/-1", "", 0, false},
		{"r0/", "", 0, false},
		{"r0/1/2", "", 0, false},
		{"", "", 0, false},
		{"/0", "", 0, false},
		{"..", "", 0, false},
	} {
		got, err := parseTarget(tt.word)
		if (err == nil) != tt.ok || tt.ok && (got.resource != tt.name || got.volume != tt.vol) {
			t.Errorf("parseTarget(%q) = %v, %v", tt.word, got, err)
		}
		if err == nil && got.String() != tt.word {
			t.Errorf("parseTarget(%q) prints as %q", tt.word, got)
		}
	}
}
