package config

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		text string
		want int64 // -1: not a number
	}{
		{sectors, "100", 100},
		{sectors, "1K", 2},
		{sectors, "1k", 2},
		{sectors, "1M", 2048},
		{sectors, "1G", 2097152},
		{sectors, "7s", 7},
		{kbytes, "250", 250},
		{kbytes, "10M", 10240},
		{kbytes, "1s", 1}, // half a KiB rounds up
		{kbytes, "2s", 1},
		{kbytes, "3s", 2},
		{bytes, "512k", 524288},
		{bytes, "3s", 1536},
		{count, "8k", 8192},
		{tenths, "60", 60},
		{tenths, "1K", 1024},
		{tenths, "6s", -1},
		{seconds, "10s", -1},
		{count, "", -1},
		{count, "K", -1},
		{count, "1KK", -1},
		{count, "-5", -1},
		{count, "0x10", -1},
		{count, "1T", -1},
		{count, "1.5", -1},
		{count, "9223372036854775807", math.MaxInt64},
		{count, "9223372036854775808", math.MaxInt64},
		{count, "99999999999999999999", math.MaxInt64},
		{kbytes, "9223372036854775807G", math.MaxInt64},
		{sectors, "8589934591G", math.MaxInt64/512 - 1<<21 + 1},
	} {
		got, problem := parseNumber(c.unit, c.text)
		if problem != "" {
			got = -1
		}
		if got != c.want {
			t.Errorf("%q in %s is %d, want %d (%s)", c.text, c.unit.Name, got, c.want, problem)
		}
	}
}

// TestFormatNumber: what is printed is read as the same number, in every unit.
func TestFormatNumber(t *testing.T) {
	units := []Unit{count, bytes, kbytes, sectors, seconds, tenths, pages, extents}
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.SampledFrom(units).Draw(t, "unit")
		n := rapid.Int64Range(0, math.MaxInt64/512).Draw(t, "n")
		n >>= rapid.IntRange(0, 60).Draw(t, "shift")
		n <<= rapid.IntRange(0, 8).Draw(t, "zeros")
		text := formatNumber(u, n)
		if got, problem := parseNumber(u, text); got != n || problem != "" {
			t.Fatalf("%d %s is printed %q, which is %d %s", n, u.Name, text, got, problem)
		}
	})
}

func TestSecretIsSilent(t *testing.T) {
	n := DefaultNet()
	n.SharedSecret = "hush"
	for _, s := range []string{n.SharedSecret.String(), n.SharedSecret.GoString()} {
		if strings.Contains(s, "hush") || s == "" {
			t.Errorf("a secret prints %q", s)
		}
	}
}
