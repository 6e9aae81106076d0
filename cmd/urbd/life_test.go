package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/config"
)

// remember writes down the configuration of a resource as its daemon does.
func (b *bench) remember(resource string) {
	b.t.Helper()
	if err := b.tryRemember(resource); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tryRemember(resource string) error {
	b.t.Helper()
	cfg, err := etc.load(b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	targets, _, err := configured(cfg, []string{resource}, func(r *config.Resource) (*config.Host, *config.Host, error) { return r.Local("alpha", nil) })
	if err != nil {
		b.t.Fatal(err)
	}
	return rememberConfig(b.run, targets[0])
}

func TestUpOfWhatIsUp(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{status: `{"name":"r1","role":"Primary","pid":71}`}
	b.listen("r1", d)
	b.want("up r1", 10, "", "urbd: r1 is up already, served by process 71; a changed configuration is taken up by: urbd adjust r1; its state is shown by: urbd status r1\n")
	if len(d.orders) > 0 {
		t.Errorf("the daemon was told %v", d.orders)
	}
}

func TestAdjustSeesWhatHasChanged(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{status: statusLine("Connected", "Established", "UpToDate", "UpToDate", "")}
	b.listen("r1", d)
	b.remember("r1")
	b.want("adjust r1", 0, "", "")
	b.write("# moved by a line\n" + twoResources)
	b.want("adjust r1", 0, "", "")
	t.Chdir(b.dir)
	b.want("adjust r1 -c urbd.conf", 0, "", "")
	b.write(strings.ReplaceAll(twoResources, "resource r1 {", "resource r1 { net { ping-int 5; }"))
	b.want("adjust r1", 10, "", `the configuration has changed ("}" is now "net {")`)
}

// A record that could not be written as a whole is none: adjust would take it for another configuration.
func TestHalfARecordOfTheConfiguration(t *testing.T) {
	b := newBench(t)
	if err := os.Symlink("/dev/full", configRecord(b.run, "r1")); err != nil {
		t.Fatal(err)
	}
	if err := b.tryRemember("r1"); err == nil {
		t.Error("it was written")
	}
	if _, err := os.Lstat(configRecord(b.run, "r1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}
