package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
)

// places is how many guests the machines of docs/scale.md run at once: they have two cores.
const places = 2

// longestShard is how many seconds the cells of a patch and its base take on so many machines, by
// the durations of the reference results.
func longestShard(t *testing.T, machines int) float64 {
	t.Helper()
	subject, err := kernel.NamedSubject("")
	if err != nil {
		t.Fatal(err)
	}
	took, err := results.ReferenceSeconds(subject.Path(results.ReferenceFolder))
	if err != nil {
		t.Fatal(err)
	}
	const variant = "plain"
	programs, err := vmtest.SelectPrograms(vmtest.Selection{}, variant)
	if err != nil {
		t.Fatal(err)
	}
	// What is compared stays together.
	var cells [][]float64
	var pieces []float64
	for _, p := range programs {
		a, b := took(subject.Pin, variant, kernel.Base, p.Name), took(subject.Pin, variant, "posted", p.Name)
		cells, pieces = append(cells, []float64{a, b}), append(pieces, a+b)
	}
	longest := 0.
	part := vmtest.Balance(pieces, machines)
	for machine := 1; machine <= machines; machine++ {
		var mine []float64
		for i, c := range cells {
			if part[i] == machine {
				mine = append(mine, c...)
			}
		}
		loads := make([]float64, places)
		for i, place := range vmtest.Balance(mine, places) {
			loads[place-1] += mine[i]
		}
		longest = max(longest, slices.Max(loads))
	}
	return longest
}

// The minutes that docs/scale.md assumes for a patch on one machine.
const (
	usualPatch = 4.5
	slowPatch  = 13
	slowShare  = 0.1
	// Of a day's patches that many arrive in ten of its hours.
	busyShare = 0.8
)

// answers simulates a queue before some machines, and gives the minutes in which half and 95 % of the
// patches are answered.
func answers(perDay, machines int) (half, most float64) {
	const days, day, busy, busyFrom = 300, 24 * 60, 10 * 60, 8 * 60
	random := rand.New(rand.NewPCG(1, 2))
	var arrivals []float64
	for d := range days {
		for range perDay {
			minute := busyFrom + random.Float64()*busy
			if random.Float64() >= busyShare {
				minute = busyFrom + busy + random.Float64()*(day-busy)
			}
			arrivals = append(arrivals, float64(d*day)+minute)
		}
	}
	slices.Sort(arrivals)
	free := make([]float64, machines)
	var took []float64
	for _, at := range arrivals {
		need := usualPatch
		if random.Float64() < slowShare {
			need = slowPatch
		}
		next := slices.Index(free, slices.Min(free))
		free[next] = max(at, free[next]) + need
		took = append(took, free[next]-at)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*95/100]
}

// The tables of docs/scale.md are computed.
func TestScaleTables(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(checkout, "docs", "scale.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, machines := range []int{1, 2, 3, 5, 7} {
		want = append(want, fmt.Sprintf("| %d | %.0f |", machines, longestShard(t, machines)))
	}
	for _, queue := range [][2]int{{100, 1}, {100, 2}, {100, 3}, {1000, 6}, {1000, 7}, {1000, 8}, {1000, 9}} {
		half, most := answers(queue[0], queue[1])
		want = append(want, fmt.Sprintf("| %d | %d | %.1f | %.1f |", queue[0], queue[1], half, most))
	}
	for _, row := range want {
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/scale.md lacks the row %s", row)
		}
	}
}
