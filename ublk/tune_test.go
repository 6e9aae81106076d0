package ublk

import "testing"

func TestSettingIsSet(t *testing.T) {
	for _, tt := range []struct {
		now, value string
		want       bool
	}{
		{"2000\n", "0", false}, {"0\n", "0", true}, {"[none] mq-deadline\n", "none", true}, {"none [mq-deadline]\n", "none", false}, {"\n", "0", false},
	} {
		if got := isSet(tt.now, tt.value); got != tt.want {
			t.Errorf("%q is %q: %v", tt.now, tt.value, got)
		}
	}
}
