package scripts_test

import (
	"os"
	"path/filepath"
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
