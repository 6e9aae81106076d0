package replication

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestStatusKeysAreDocumented looks up every key of the status in docs/drbd-cli.md 2.6.
func TestStatusKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/drbd-cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## 2.6 ")
	section, _, _ = strings.Cut(section, "\n## 2.7 ")
	known := regexp.MustCompile(`[a-z0-9_/-]+( \[MiB/s\])?`).FindAllString(section, -1)
	keys := jsonKeys(reflect.TypeFor[ResourceStatus]())
	if len(keys) < 60 {
		t.Fatalf("%d keys in a status", len(keys))
	}
	for _, key := range keys {
		if !slices.Contains(known, key) {
			t.Errorf("docs/drbd-cli.md 2.6 does not know %q", key)
		}
	}
}

// jsonKeys are the keys of a type and of those that it is made of.
func jsonKeys(of reflect.Type) (keys []string) {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		f := of.Field(i)
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" {
			keys = append(keys, key)
		}
		if f.IsExported() && f.Type.String() != "time.Time" {
			keys = append(keys, jsonKeys(f.Type)...)
		}
	}
	return keys
}
