package scripts_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/config"
)

// TestExampleConfiguration reads what the installer leaves in /etc, with the example as a resource.
func TestExampleConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, to := range map[string]string{"config/urbd.conf": "urbd.conf", "config/example.res.txt": "urbd.d/r0.res"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte(`shared-secret "";`), []byte(`shared-secret "fresh";`), 1)
		path := filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(config.Source{ReadFile: os.ReadFile, Glob: filepath.Glob}, filepath.Join(dir, "urbd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 || len(cfg.Resources) != 1 {
		t.Errorf("%d resources, warnings %v", len(cfg.Resources), cfg.Warnings)
	}
	r := cfg.Resource("r0")
	if r.Net.SharedSecret != "fresh" || r.Exposed() != "" {
		t.Errorf("the nodes do not know each other by a secret: %+v", r.Net)
	}
	for _, host := range []string{"node1", "node2"} {
		local, _, err := r.Local(host, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v := local.Volume(0); v == nil || v.Minor != 0 || v.Disk != "/var/lib/urbd/r0.img" || !v.MetaDisk.Internal {
			t.Errorf("%s: %+v", host, v)
		}
	}
}

// TestReadmeConfiguration reads the quick start's, with a secret between the quotes; without one it is refused, by a sentence that says where to get one.
func TestReadmeConfiguration(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "\n    resource r0 {")
	text, _, ok := strings.Cut(text, "\n    }\n")
	if !ok {
		t.Fatal("README.md has no resource r0")
	}
	text = "resource r0 {" + text + "\n}\n"
	if _, err := config.Parse("r0.res", []byte(text)); err == nil || !strings.Contains(err.Error(), "urbd secret") {
		t.Errorf("without a secret: %v", err)
	}
	cfg, err := config.Parse("r0.res", []byte(strings.Replace(text, `shared-secret "";`, `shared-secret "fresh";`, 1)))
	if err != nil || len(cfg.Warnings) > 0 || cfg.Resource("r0").Exposed() != "" {
		t.Errorf("%v, %+v", err, cfg)
	}
}
