package lab

import (
	"reflect"
	"testing"

	sm "github.com/urbd/urbd/statemachine"
)

func TestHistories(t *testing.T) {
	log := `time=2026-01-01T00:00:00Z level=INFO msg=state resource=r0 device=r0/0 from="Secondary/Unknown StandAlone UpToDate/DUnknown" to="Secondary/Unknown Unconnected UpToDate/DUnknown" cause=connect
time=2026-01-01T00:00:00Z level=INFO msg=state resource=r0 device=r0/1 from="Secondary/Unknown StandAlone UpToDate/DUnknown" to="Secondary/Unknown Unconnected UpToDate/DUnknown" cause=connect
time=2026-01-01T00:00:00Z level=INFO msg="something else" device=minor-0
time=2026-01-01T00:00:00Z level=INFO msg=state resource=r0 device=r0/0 from="Secondary/Unknown Unconnected UpToDate/DUnknown" to="Primary/Unknown Unconnected UpToDate/DUnknown susp" cause=primary
time=2026-01-01T00:00:00Z level=INFO msg=state resource=r0 device=r0/0 from="Primary/Unknown Unconnected UpToDate/DUnknown susp" to="Primary/Unknown WFConnection UpToDate/DUnknown" cause=x
time=2026-01-01T00:00:00Z level=INFO msg=state resource=r0 device=r0/0 from="Secondary/Unknown StandAlone Diskless/DUnknown" to="Secondary/Unknown StandAlone Attaching/DUnknown" cause=attach
`
	got, err := Histories(log)
	want := [][]sm.Conn{{sm.StandAlone, sm.Unconnected, sm.WFConnection}, {sm.StandAlone, sm.Unconnected}, {sm.StandAlone}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Histories(`msg=state resource=r0 device=r0/0 from="Primary/Unknown Nowhere UpToDate/DUnknown" to="Primary/Unknown StandAlone UpToDate/DUnknown"`); err == nil {
		t.Error("a state that does not exist is taken")
	}
}
