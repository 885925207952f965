package vmtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/kernel"
	"patchproof/results"
)

func TestParseShare(t *testing.T) {
	for text, want := range map[string]Share{"": {}, "1/1": {1, 1}, "2/5": {2, 5}, "1000/1000": {1000, 1000}} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("parseShare(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"6/5", "0/5", "0/0", "1/0", "x", "2", "/", "2/", "/5", "-1/5", "+1/5", "1/-5", "1.5/5", " 2/5", "2/5 ", "2/5/7", "1/1001", "1/99999999999999999999", "٢/٥"} {
		got, err := parseShare(text)
		if err == nil || !strings.Contains(err.Error(), "SHARD="+text+":") {
			t.Errorf("parseShare(%q) = %v, %v; want that SHARD=%s is refused", text, got, err, text)
		}
	}
}

// However work is cut, no part takes longer than another by more than the longest piece.
func TestBalance(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		seconds := make([]float64, random.IntN(80))
		longest := 0.
		for i := range seconds {
			seconds[i] = 1 + float64(random.IntN(90))
			longest = max(longest, seconds[i])
		}
		parts := 1 + random.IntN(9)
		loads := make([]float64, parts)
		for i, part := range Balance(seconds, parts) {
			loads[part-1] += seconds[i]
		}
		if slices.Max(loads)-slices.Min(loads) > longest {
			t.Errorf("Balance(%v, %d) gives %v", seconds, parts, loads)
		}
	}
	if diff := cmp.Diff([]int{3, 1, 2, 3, 2}, Balance([]float64{5, 30, 0, 9, 3}, 3)); diff != "" {
		t.Errorf("Balance, with one that is not known (-want +got):\n%s", diff)
	}
}

// Each cell of a plan is in one shard, those of a shard are in the plan's order, and what is compared with each other stays
// together.
func TestShardsOfAPlan(t *testing.T) {
	timed := []Program{{Name: "a", Timed: true}, {Name: "b", Timed: true}, {Name: "c", Timed: true}}
	for _, tt := range []struct {
		name string
		sel  Selection
		// together says that all cells of a program are.
		together bool
	}{
		{"the suite", Selection{Count: 1}, false},
		{"the suite, twice", Selection{Count: 2}, false},
		{"with debug checks", Selection{Count: 1, Selection: kernel.Selection{Variant: "debug"}}, false},
		{"a measurement", Selection{Count: 6, Run: timed}, true},
		{"a patch against its base", Selection{Count: 2, Selection: kernel.Selection{Patch: "../patches/io_kiocb-alloc-cache/posted.mbox"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := resolve(tt.sel)
			if err != nil {
				t.Fatal(err)
			}
			whole, _, err := plan(tt.sel, s)
			if err != nil {
				t.Fatal(err)
			}
			for _, of := range []int{1, 2, 3, 7} {
				var record []results.Planned
				var names []string
				shardOf := map[string]int{}
				for index := 1; index <= of; index++ {
					sel := tt.sel
					sel.Shard = Share{index, of}
					p, shard, err := plan(sel, s)
					if err != nil {
						t.Fatal(err)
					}
					if record == nil {
						record = shard.Plan
					}
					if diff := cmp.Diff(record, shard.Plan); diff != "" {
						t.Errorf("shards 1 and %d of %d have other plans:\n%s", index, of, diff)
					}
					last := -1
					for _, c := range p.Cells {
						i := slices.IndexFunc(whole.Cells, func(w CellSpec) bool { return w.Name() == c.Name() })
						if i <= last {
							t.Errorf("%s of shard %d of %d is not in the order of the plan", c.Name(), index, of)
						}
						last = i
						names = append(names, c.Name())
						if was, ok := shardOf[c.Program.Name]; tt.together && ok && was != index {
							t.Errorf("%s is in shards %d and %d of %d", c.Program.Name, was, index, of)
						}
						shardOf[c.Program.Name] = index
					}
				}
				var want []string
				for _, c := range whole.Cells {
					want = append(want, c.Name())
				}
				slices.Sort(want)
				slices.Sort(names)
				if diff := cmp.Diff(want, names); diff != "" {
					t.Errorf("%d shards (-plan +shards):\n%s", of, diff)
				}
			}
		})
	}
}

// The durations of the reference are for the programs that there are.
func TestReferenceKnowsDurations(t *testing.T) {
	s, err := resolve(Selection{Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	took, err := results.ReferenceSeconds(s.subject.Path(results.ReferenceFolder))
	if err != nil {
		t.Fatal(err)
	}
	var unknown []string
	for _, p := range s.programs {
		for _, spec := range s.specs {
			if took(spec.Pin.Name, s.variant.Name, spec.Name, p.Name) == 0 {
				unknown = append(unknown, fmt.Sprintf("%s on %s", p.Name, spec.Name))
			}
		}
	}
	if len(unknown) > 0 {
		t.Errorf("no duration of %s: make reference", strings.Join(unknown, ", "))
	}
}
