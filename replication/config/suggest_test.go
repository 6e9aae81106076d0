package config

import "testing"

func TestHintFor(t *testing.T) {
	options := optionNames(NetSection)
	for word, want := range map[string]string{
		"timout":         "timeout",       // a letter lost
		"tiemout":        "timeout",       // two swapped
		"Timeout":        "timeout",       // case
		"max-bufers":     "max-buffers",   // lost in a long word
		"verify_alg":     "verify-alg",    // another character
		"ping-interval":  "",              // too far: not a guess worth making
		"protcol":        "protocol",      //
		"x":              "",              // too short for a guess
		"completely-odd": "",              //
		"aftersb-0pri":   "after-sb-0pri", //
		"shared-sekrit":  "shared-secret", // two changed
		"sndbuf-size":    "sndbuf-size",   // itself
		"unplugwatermrk": "unplug-watermark",
	} {
		if want != "" {
			want = `did you mean "` + want + `"?`
		}
		if got := hintFor(word, options, ""); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func TestElsewhereHint(t *testing.T) {
	for _, c := range []struct {
		section    Section
		word, want string
	}{
		{NetSection, "resync-rate", "it belongs in disk { }"},
		{DiskSection, "cpu-mask", "it belongs in options { }"},
		{DiskSection, "rate", "write resync-rate in disk { }"},
		{NetSection, "tls-keyring", "an option of DRBD 9; urbd is an 8.4 node: remove the line"},
		{NetSection, "tentative", "not an option of the file: say --tentative to urbd connect"},
		{NetSection, "nonsense", ""},
	} {
		if got := elsewhereHint(c.section, c.word); got != c.want {
			t.Errorf("%s in %s: %q, want %q", c.word, c.section, got, c.want)
		}
	}
}
