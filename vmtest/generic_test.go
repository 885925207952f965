package vmtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"patchproof/patches/subjects"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// generic are the folders whose code serves any subject.
var generic = []string{"cmd", "guest/event", "guest/ktap", "guest/machine", "guest/mark", "kernel", "results", "vmtest"}

// namesOf is what a subject's own data calls things: names that nothing else has, and
// names of programs, which may be English words, too.
func namesOf(s *subjects.Subject) (own, programs []string) {
	own = append(own, s.Name)
	for _, k := range s.Kernels {
		own = append(append(own, k.Name), k.Features...)
	}
	for _, p := range s.Bench.Parts {
		own = append(own, p.Name)
	}
	for _, p := range s.Programs {
		programs = append(programs, p.Name)
	}
	return own, programs
}

// TestGenericCodeNamesNoSubject reads the string literals of generic code.
func TestGenericCodeNamesNoSubject(t *testing.T) {
	subjects, err := subjects.All("../patches")
	if err != nil {
		t.Fatal(err)
	}
	var own, programs []string
	for _, s := range subjects {
		o, p := namesOf(s)
		own, programs = append(own, o...), append(programs, p...)
	}
	// The kernel's word for a way to fail allocations, and the check of kmemleak, which
	// any program may have.
	programs = slices.DeleteFunc(programs, func(name string) bool { return name == "failslab" || name == "leaks" })
	for i, name := range own {
		own[i] = regexp.QuoteMeta(name)
	}
	names := regexp.MustCompile(`(^|[^\w-])(` + strings.Join(own, "|") + `)($|[^\w-])`)
	subjectsOwn := regexp.MustCompile(`^patchproof/guest/(uring|alloccache|cmd)`)
	for _, dir := range generic {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Error(err)
				}
				at := fmt.Sprintf("%s: %s", files.Position(lit.Pos()), lit.Value)
				switch {
				case slices.Contains(programs, text):
					t.Errorf("%s is the name of a subject's program", at)
				case names.MatchString(text):
					t.Errorf("%s names a subject, or a kernel, feature or part of one", at)
				case subjectsOwn.MatchString(text):
					t.Errorf("%s is imported, which is of one subject", at)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
