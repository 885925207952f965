package kernel

import (
	"patchproof/patches/subjects"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	patch := filepath.Join(t.TempDir(), "mine.patch")
	writeFile(t, patch, strings.ReplaceAll(goodPatch, "\n\n", "\n \n"))
	release := &Pin{Name: "v6.12.107"}
	for name, test := range map[string]struct {
		sel  Selection
		want []string // kernel, pin, number of patches
	}{
		"default":     {Selection{}, []string{"base v5.10.13 0", "posted v5.10.13 6"}},
		"one":         {Selection{Kernels: []string{"posted"}}, []string{"posted v5.10.13 6"}},
		"on request":  {Selection{Kernels: []string{"base", "fixed"}}, []string{"base v5.10.13 0", "fixed v5.10.13 5"}},
		"verbatim":    {Selection{Pin: "for-5.8"}, []string{"base for-5.8 0", "posted for-5.8 1"}},
		"own patch":   {Selection{Patch: patch}, []string{"base v5.10.13 0", "patched v5.10.13 1"}},
		"tree":        {Selection{Tree: "."}, []string{"base tree 0"}},
		"tree, asked": {Selection{Tree: ".", Subject: "io_kiocb-alloc-cache"}, []string{"base tree 0", "posted tree 1"}},
		"both asked":  {Selection{Patch: patch, Subject: "io_kiocb-alloc-cache"}, []string{"base v5.10.13 0", "posted v5.10.13 6", "patched v5.10.13 1"}},
		"both theirs": {Selection{Tree: ".", Patch: patch}, []string{"base tree 0", "patched tree 1"}},
		"programs on a release": {
			Selection{Pin: release.Name, Release: release, Subject: "io_kiocb-alloc-cache", Kernels: []string{"base"}}, []string{"base v6.12.107 0"}},
		"programs on a release with a patch": {
			Selection{Pin: release.Name, Release: release, Subject: "io_kiocb-alloc-cache", Patch: patch}, []string{"base v6.12.107 0", "patched v6.12.107 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			lineup, err := Load()
			if err != nil {
				t.Fatal(err)
			}
			specs, _, err := lineup.Resolve(test.sel)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range specs {
				got = append(got, s.Name+" "+s.Pin.Name+" "+string(rune('0'+len(s.Patches()))))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("kernels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownSelections(t *testing.T) {
	for name, test := range map[string]struct {
		sel  Selection
		want []string
	}{
		"pin":          {Selection{Pin: "v9"}, []string{"PIN", `"v9"`, "v5.10.13, for-5.8"}},
		"kernel":       {Selection{Kernels: []string{"base", "best"}}, []string{"KERNELS", `"best"`, "base, posted"}},
		"subject":      {Selection{Subject: "mine"}, []string{"SUBJECT", `"mine"`, "io_kiocb-alloc-cache"}},
		"not asked":    {Selection{Tree: ".", Kernels: []string{"posted"}}, []string{"KERNELS", `"posted"`, "SUBJECT=name"}},
		"variant":      {Selection{Variant: "fast"}, []string{"VARIANT", `"fast"`, "plain"}},
		"no series":    {Selection{Pin: "v6.12.107", Release: &Pin{Name: "v6.12.107"}, Subject: "io_kiocb-alloc-cache"}, []string{"no series for v6.12.107", "KERNELS=base"}},
		"patch":        {Selection{Patch: "/nonexistent.patch"}, []string{"/nonexistent.patch"}},
		"pin and tree": {Selection{Pin: "for-5.8", Tree: "."}, []string{"PIN=for-5.8", "TREE=."}},
		"rev alone":    {Selection{Rev: "v5.7"}, []string{"REV=v5.7", "TREE"}},
	} {
		t.Run(name, func(t *testing.T) {
			lineup, err := Load()
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = lineup.Resolve(test.sel)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Resolve(%+v) = %v; want an error with %q", test.sel, err, want)
				}
			}
		})
	}
}

func TestBadLineups(t *testing.T) {
	const good = `
[[pin]]
name = "a"
accept = { series = "x.mbox" }
source = [{ git = "https://localhost/x", rev = "main" }]
[[variant]]
name = "plain"
role = "measure"
image = "vmlinux"
scale = 1.0
fragments = ["plain.config"]
`
	if _, err := parseLineup(good); err != nil {
		t.Fatal(err)
	}
	for old, test := range map[string]struct{ new, want string }{
		`name = "a"`:                      {`name = "../a"`, "../a"},
		`name = "plain"`:                  {`name = "plain"` + "\nmodules = true", "unknown key"},
		`role = "measure"`:                {`role = "fast"`, "fast"},
		"scale = 1.0\n":                   {"scale = 1.0\njudged-as = \"none\"\n", "judged-as"},
		`image = "vmlinux"`:               {`image = "uImage"`, "uImage"},
		`scale = 1.0`:                     {``, "scale"},
		`"plain.config"`:                  {`"none.config"`, "none.config"},
		`accept = { series = "x.mbox" }`:  {``, "accept"},
		`, rev = "main"`:                  {``, "source 1"},
		`git = "https://localhost/x", re`: {`url = "https://localhost/x", re`, "source 1"},
	} {
		if _, err := parseLineup(strings.Replace(good, old, test.new, 1)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("with %q: %v; want an error with %q", test.new, err, test.want)
		}
	}
}

func TestVariantHasWhatProgramsNeed(t *testing.T) {
	lineup, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	program := func(option string, variants ...string) subjects.Program {
		return subjects.Program{Config: []string{"PROC_FS", option}, Variants: variants}
	}
	s := &subjects.Subject{Name: "mine", Programs: []subjects.Program{program("EXT4_FS"), program("EXT4_FS"), program("XFS_FS", "debug")}}
	v, err := lineup.Variants[0].needing(s)
	if err != nil {
		t.Fatal(err)
	}
	want := []Fragment{{Name: "config in patches/mine/subject.toml", Text: "CONFIG_EXT4_FS=y\n"}}
	if diff := cmp.Diff(want, v.Over); diff != "" {
		t.Errorf("what is put over the variant (-want +got):\n%s", diff)
	}
}

// The variants ask for all that the first subject's programs need, so that its kernels
// share an output folder with all others.
func TestNothingOverTheFirstSubjectsVariants(t *testing.T) {
	lineup, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range lineup.Variants {
		if _, v, err = lineup.Resolve(Selection{Variant: v.Name}); err != nil || len(v.Over) > 0 {
			t.Errorf("variant %s: %v, %v; want no options more", v.Name, v.Over, err)
		}
	}
}
