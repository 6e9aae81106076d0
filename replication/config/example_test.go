package config_test

import (
	"errors"
	"fmt"
	"os"

	"github.com/urbd/urbd/replication/config"
)

func ExampleLoad() {
	cfg, err := config.Load(config.Source{ReadFile: os.ReadFile}, "testdata/r0.res")
	if err != nil {
		fmt.Println(err) // one line per error: file:line:column: message (hint)
		return
	}
	r := cfg.Resource("r0")
	local, peer, err := r.Local("alpha", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	v := local.Volume(0)
	fmt.Println(r.Name, "protocol", r.Net.Protocol, "from", local.Address, "to", peer.Address)
	fmt.Println("/dev/ublkb"+fmt.Sprint(v.Minor), "on", v.Disk, "resyncs at up to", v.Options.CMaxRate, "bytes per second")
	// Output:
	// r0 protocol C from 192.0.2.1:7789 to 192.0.2.2:7789
	// /dev/ublkb0 on /srv/urbd/r0.img resyncs at up to 419430400 bytes per second
}

func ExampleErrors() {
	_, err := config.Parse("r0.res", []byte("resource r0 {\n  net { timeot 30; }\n}\n"))
	var first *config.Error
	if errors.As(err, &first) {
		fmt.Println(first.Kind == config.Syntax, first.Line, first.Column)
	}
	fmt.Println(err)
	// Output:
	// true 2 9
	// r0.res:2:9: net { } has no "timeot" (did you mean "timeout"?)
}
