// Package bench measures kernels: instructions per operation under TCG, which are
// the same in every run. They are not time.
package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patchproof/vmtest"
)

// groups are the sets of workloads, each a cell per kernel: NOPs by batch size,
// single and linked; reads of a tmpfs file, plain and registered; timeouts that fire
// and polls that are woken.
var groups = []string{"nop", "file", "life"}

// program is a group's row in the record of a run.
func program(group string) string { return "bench-" + group }

// Programs returns the programs of the named groups, of all when none is named.
func Programs(names []string) ([]vmtest.Program, error) {
	if len(names) == 0 {
		names = groups
	}
	var programs []vmtest.Program
	for _, name := range names {
		if !slices.Contains(groups, name) {
			return nil, fmt.Errorf("unknown BENCH %q; known: %s", name, strings.Join(groups, ", "))
		}
		programs = append(programs, vmtest.Program{
			Name: program(name), Command: "bench", CPUs: 1, MemoryMiB: 512, Deadline: 60 * time.Second,
			Append: []string{"patchproof.bench=" + name}, Mode: vmtest.Icount, Counted: true,
		})
	}
	return programs, nil
}
