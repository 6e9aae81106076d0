package config

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/urbd/urbd/scripts/fuzztest"
)

// FuzzParse: no text makes the parser panic or report without bound; every error has a place in the text; what is
// accepted can be dumped and means the same when read again.
func FuzzParse(f *testing.F) {
	fuzztest.Begin(f)
	example, err := os.ReadFile("testdata/r0.res")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{everything, string(example), "", "{", "}", `"`, "resource r {", "skip { \" }", "include x;",
		"resource r { on a { address ipv6 [::1]:1; } }", "global { minor-count 99999999999999999999; }", "common { syncer { rate 1s } }",
		"resource r { volume 0 { disk { size 1G; } } on a b { } floating 1.2.3.4:5; }", "resource r { net { verify-alg \"\\\n\"; } }"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse("f", text)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 || len(all) > maxErrors || cfg != nil {
				t.Fatalf("%d errors, config %v: %v", len(all), cfg, err)
			}
			for _, e := range all {
				if e.Msg == "" || e.File != "f" || e.Line < 0 || e.Line > len(text)+1 || e.Column > len(text)+1 {
					t.Fatalf("a bad error: %#v", e)
				}
			}
			return
		}
		again, err := Parse("f", []byte(dumped(t, cfg)))
		if err != nil {
			t.Fatalf("the dump is not accepted: %v\n%s", err, dumped(t, cfg))
		}
		if !reflect.DeepEqual(stripped(cfg), stripped(again)) {
			t.Fatalf("the dump means something else:\n%s", dumped(t, cfg))
		}
	})
}
