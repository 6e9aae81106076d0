package replication

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/urbd/urbd/replication/engine"
)

func TestVerbsBecomeCommands(t *testing.T) {
	for _, tt := range []struct {
		verb    Verb
		volumes []int
		want    []engine.Command // nil: a *VerbError
	}{
		{Verb{Verb: VerbPrimary, Force: true}, []int{0, 1}, []engine.Command{engine.Promote{Force: true}}},
		{Verb{Verb: VerbPrimary, Volume: ptr(3)}, []int{3}, []engine.Command{engine.Promote{}}},
		{Verb{Verb: VerbDown, Volume: ptr(0)}, []int{0}, []engine.Command{engine.Down{}}},
		{Verb{Verb: VerbPrimary, Volume: ptr(0)}, []int{0, 1}, nil},
		{Verb{Verb: VerbPrimary, Volume: ptr(1)}, []int{0}, nil},
		{Verb{Verb: VerbDetach}, []int{0, 1}, []engine.Command{engine.Detach{Vol: 0}, engine.Detach{Vol: 1}}},
		{Verb{Verb: VerbDetach, Volume: ptr(1)}, []int{0, 1}, []engine.Command{engine.Detach{Vol: 1}}},
		{Verb{Verb: VerbDetach, Volume: ptr(7)}, []int{0, 1}, nil},
		{Verb{Verb: "explode"}, []int{0}, nil},
	} {
		got, err := tt.verb.commands(tt.volumes)
		if wrong := new(VerbError); !reflect.DeepEqual(got, tt.want) || errors.As(err, &wrong) != (tt.want == nil) {
			t.Errorf("%+v of %v: %v, %v", tt.verb, tt.volumes, got, err)
		}
	}
}

// TestAVerbErrorCrossesTheSocket: the client gets the kind of error that the daemon had.
func TestAVerbErrorCrossesTheSocket(t *testing.T) {
	w := httptest.NewRecorder()
	status, body := outcome(&VerbError{"no sense"})
	reply(w, status, body)
	resp := w.Result()
	defer resp.Body.Close()
	if wrong := new(VerbError); resp.StatusCode != http.StatusBadRequest || !errors.As(answer(resp), &wrong) || wrong.Reason != "no sense" {
		t.Errorf("%s: %v", resp.Status, wrong)
	}
}
