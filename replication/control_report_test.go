package replication

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
)

func TestWaitLimit(t *testing.T) {
	for _, tt := range []struct {
		wfc, degr, outdated time.Duration
		isDegraded, isOld   bool
		want                time.Duration
	}{
		{0, 0, 0, true, true, 0},
		{90, 60, 30, false, false, 90},
		{90, 60, 30, true, false, 60},
		{90, 60, 30, false, true, 30},
		{90, 60, 30, true, true, 30},
		{0, 60, 0, false, false, 0},
		{0, 60, 0, true, false, 60},
		{0, 60, 0, false, true, 60},
		{90, 0, 0, true, true, 90},
		{30, 60, 90, true, true, 30},
	} {
		s := config.Startup{WFCTimeout: tt.wfc, DegrWFCTimeout: tt.degr, OutdatedWFCTimeout: tt.outdated}
		if got := waitLimit(s, tt.isDegraded, tt.isOld); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
