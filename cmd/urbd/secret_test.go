package main

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/config"
)

// A secret is a bare word of a configuration, within the 63 characters of the driver, and never the same.
func TestSecret(t *testing.T) {
	b := newBench(t)
	seen := map[string]bool{}
	for range 100 {
		got := b.urbd("secret")
		s := strings.TrimSuffix(got.out, "\n")
		if got.code != 0 || !regexp.MustCompile(`^[A-Za-z0-9]{32,63}$`).MatchString(s) || seen[s] {
			t.Fatalf("%+v", got)
		}
		seen[s] = true
		cfg, err := config.Parse("f", []byte(`resource r { net { cram-hmac-alg sha256; shared-secret `+s+`; } device minor 0; disk /dev/sdb; meta-disk internal;
			on alpha { address 192.0.2.1:1; } on beta { address 192.0.2.2:1; } }`))
		if err != nil || string(cfg.Resources[0].Net.SharedSecret) != s || cfg.Resources[0].Exposed() != "" {
			t.Fatalf("%q: %v", s, err)
		}
	}
	for length, served := range map[int]bool{63: true, 64: false} { // the driver refuses 64
		_, err := config.Parse("f", []byte(`resource r { net { cram-hmac-alg sha256; shared-secret `+strings.Repeat("x", length)+`; } device minor 0; disk /dev/sdb; meta-disk internal;
			on alpha { address 192.0.2.1:1; } on beta { address 192.0.2.2:1; } }`))
		if (err == nil) != served {
			t.Errorf("a secret of %d characters: %v", length, err)
		}
	}
	b.want("secret r0", 1, "", "takes no words")
}

// Who can be reached by others and asks no secret hears of it, where the configuration is looked at, at the start and in the status.
func TestExposedIsSaid(t *testing.T) {
	const warning = "urbd: warning: r0: without a shared-secret whoever can use the address of one node"
	open := `resource r0 { NET device minor 0; disk DIR/a.img; meta-disk internal;
		on alpha { address 192.0.2.1:1; } on beta { address 192.0.2.2:1; } }`
	b := newBench(t)
	b.write(strings.Replace(open, "NET ", "", 1))
	b.want("dump", 0, "resource r0 {", warning)
	b.want("dump r0", 0, "resource r0 {", "urbd secret")
	if got := b.urbd("up r0"); !strings.Contains(got.err, warning) { // which fails then, since there is no daemon to start
		t.Errorf("up: %s", got.err)
	}
	b.listen("r0", &fakeControl{status: `{"name":"r0","exposed":"without a shared-secret whoever can use the address of one node"}`})
	b.want("status r0", 0, "r0 role:", warning)

	b.write(strings.Replace(open, "NET ", "net { shared-secret hush; } ", 1))
	b.want("dump", 0, "resource r0 {", "urbd: warning: r0: without a cram-hmac-alg")
	if got := b.urbd("dump"); strings.Contains(got.err, "without a shared-secret") {
		t.Errorf("there is a shared-secret: %s", got.err)
	}

	b = newBench(t)
	b.write(strings.NewReplacer("NET", "", "192.0.2.1", "127.0.0.1", "192.0.2.2", "127.0.0.2").Replace(open))
	b.want("dump", 0, "resource r0 {", "")
}

// A file that holds a secret and that others than root can read is warned about.
func TestSecretIsReadByRootOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives a file to somebody else")
	}
	b := newBench(t)
	b.write(`resource r0 {
  net { cram-hmac-alg sha1; shared-secret x; }
  on a { address 192.0.2.1:7788; disk /dev/null; meta-disk internal; device minor 0; }
  on b { address 192.0.2.2:7788; disk /dev/null; meta-disk internal; device minor 0; }
}`)
	for _, f := range []struct {
		mode os.FileMode
		uid  int
		want string
	}{
		{0o600, 0, ""},
		{0o640, 0, "holds a shared-secret and can be read by others than its owner: chmod 600 " + b.conf},
		{0o604, 0, "can be read by others"},
		{0o644, 0, "can be read by others"},
		{0o600, 1000, "holds a shared-secret and belongs to user 1000, not to root: chown root " + b.conf},
	} {
		if err := errors.Join(os.Chmod(b.conf, f.mode), os.Chown(b.conf, f.uid, 0)); err != nil {
			t.Fatal(err)
		}
		b.want("dump", 0, "resource r0 {", f.want)
	}
}
