package replication

import (
	"testing"

	"github.com/urbd/urbd/replication/config"
)

// TestZeroIsNoDefault: 0 is a value of these options, and the default to the engine.
func TestZeroIsNoDefault(t *testing.T) {
	d := config.DefaultDisk()
	d.CPlanAhead, d.CFillTarget, d.CMinRate = 0, 0, 0
	if o := diskOptions(&d); o.PlanAhead >= 0 || o.FillTarget >= 0 || o.MinRate >= 0 {
		t.Errorf("plan ahead %v, fill target %d, min rate %d", o.PlanAhead, o.FillTarget, o.MinRate)
	}
	n := testNet()
	n.KOCount = 0
	if o := netOptions(&n); o.KOCount >= 0 {
		t.Errorf("ko-count %d", o.KOCount)
	}
}
