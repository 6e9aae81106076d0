package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const deb822 = `# the archive
Types: deb deb-src
# http://elsewhere.example/
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://tool.example/deb
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINB
`

func TestDeb822(t *testing.T) {
	all := parseDeb822(deb822)
	if len(all) != 2 {
		t.Fatalf("%d entries", len(all))
	}
	if !all[0].archive([]string{"bookworm"}) || all[0].archive([]string{"trixie"}) {
		t.Error("suite of the first entry")
	}
	want := `Types: deb
Suites: trixie-backports sid
Components: main
URIs: http://mirror.example/debian
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
	if got := all[0].withSuites("trixie-backports", "sid"); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := all[1].withSuites("x"); !strings.Contains(got, "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINB\n") {
		t.Errorf("an inline key did not survive:\n%s", got)
	}
}

func TestOneLine(t *testing.T) {
	all := parseOneLine(`# comment
deb [arch=amd64,i386 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # more
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm
`)
	if len(all) != 2 {
		t.Fatalf("%d entries: %v", len(all), all)
	}
	if !all[0].archive([]string{"bookworm"}) || all[1].archive([]string{"bookworm"}) {
		t.Error("which entries are archives of packages")
	}
	want := `Types: deb
Suites: x
Components: main
Architectures: amd64 i386
Signed-By: /k.gpg
URIs: http://mirror.example/debian
`
	if got := all[0].withSuites("x"); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestDebianSourceOfAMachine(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // a line of the answer; "" is an error
	}{
		"by key, not by order": {map[string]string{
			"apt/sources.list.d/a.sources": "Types: deb\nURIs: https://tool.example\nSuites: bookworm\nComponents: main\nSigned-By: /tool.gpg\n",
			"apt/sources.list.d/b.sources": deb822,
		}, "URIs: http://mirror.example/debian"},
		"another release": {map[string]string{
			"os-release":       "VERSION_CODENAME=forky\n",
			"apt/sources.list": "deb http://mirror.example/debian forky main\n",
		}, "URIs: http://mirror.example/debian"},
		"not Debian": {map[string]string{
			"apt/sources.list": "deb http://mirror.example/ubuntu noble main\n",
		}, ""},
		"switched off": {map[string]string{
			"apt/sources.list.d/a.sources": "Enabled: no\n" + strings.SplitN(deb822, "\n\n", 2)[0],
		}, ""},
		"none": {nil, ""},
	} {
		etc := t.TempDir()
		for path, text := range c.files {
			path = filepath.Join(etc, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := debianSource(etc)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: no error but\n%s", name, got)
			}
			continue
		}
		if err != nil || !strings.Contains(got, c.want+"\n") || !strings.Contains(got, "Suites: bookworm bookworm-backports trixie trixie-backports\n") {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}
