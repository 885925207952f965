package main

import (
	"os"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// A search finds the program that measures a workload by what the subject declares. The
// groups that need a disk, a file of the guest or several processors are left out.
func TestDeclaredWorkloads(t *testing.T) {
	data, err := os.ReadFile("../../../patches/io_kiocb-alloc-cache/subject.toml")
	if err != nil {
		t.Fatal(err)
	}
	var subject struct {
		Bench struct {
			Group []struct {
				Name      string
				Workloads []string
			}
		}
	}
	if err := toml.Unmarshal(data, &subject); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, g := range subject.Bench.Group {
		switch g.Name {
		case "nop", "life", "rings", "shrink", "states":
		default:
			continue
		}
		workloads, err := groups[g.Name]()
		if err != nil {
			t.Fatalf("%s: %v", g.Name, err)
		}
		var names []string
		for _, w := range workloads {
			names = append(names, w.name)
		}
		compared++
		if diff := cmp.Diff(names, g.Workloads); diff != "" {
			t.Errorf("group %s (-program +declared):\n%s", g.Name, diff)
		}
	}
	if compared != 5 {
		t.Errorf("%d groups compared; want 5", compared)
	}
}
