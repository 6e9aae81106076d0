package vm

import (
	"slices"
	"testing"
)

func TestParseURIs(t *testing.T) {
	out := `'http://mirror.example/pool/q/qemu_10.0%2bds_amd64.deb' qemu_1%3a10.0+ds_amd64.deb 10176912 SHA256:aa
'http://mirror.example/it%27s/a_1_all.deb' a_1_all.deb 5 MD5Sum:bb
`
	got, err := parseURIs(out)
	want := []archiveFile{{"qemu_1%3a10.0+ds_amd64.deb", 10176912}, {"a_1_all.deb", 5}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "Reading package lists...\n", "'http://x' a.deb\n", "'http://x' ../a.deb 5 H\n", "'http://x\n"} {
		if got, err := parseURIs(bad); err == nil {
			t.Errorf("%q: %v and no error", bad, got)
		}
	}
}

func TestParseDepends(t *testing.T) {
	got := parseDepends("Package: x\nPre-Depends: dpkg\nDepends: dracut | initramfs-tools (>= 1), linux-base-7.3 (= 7.3-1), kmod\nSuggests: y\n")
	if want := []string{"dracut", "linux-base-7.3", "kmod"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestKernelPackageNames(t *testing.T) {
	for name, want := range map[string]bool{
		"linux-image-6.12.95+deb12-cloud-amd64": true, "linux-modules-7.3.4+deb13-cloud-amd64": true,
		"linux-image-cloud-amd64": false, "linux-base": false, "kmod": false,
	} {
		if kernelPackage.MatchString(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
