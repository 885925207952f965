package vmtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"patchproof/kernel"
	"patchproof/results"
)

// Share is a part of a plan: number Index, from 1, of Of. The zero value is all of it.
type Share struct{ Index, Of int }

// mostShards is into how many parts a plan can be cut.
const mostShards = 1000

var shareForm = regexp.MustCompile(`^([0-9]{1,4})/([0-9]{1,4})$`)

func parseShare(text string) (Share, error) {
	if text == "" {
		return Share{}, nil
	}
	m := shareForm.FindStringSubmatch(text)
	if m == nil {
		return Share{}, fmt.Errorf("SHARD=%s: want a part of how many, such as 2/5", text)
	}
	index, _ := strconv.Atoi(m[1])
	of, _ := strconv.Atoi(m[2])
	if of < 1 || of > mostShards || index < 1 || index > of {
		return Share{}, fmt.Errorf("SHARD=%s: want a part from 1 to the number of parts, at most %d: 1/5 to 5/5", text, mostShards)
	}
	return Share{Index: index, Of: of}, nil
}

// unknownS is how many seconds a cell, or a mutant, is taken for that no reference has.
const unknownS = 10

// Balance cuts work into parts that take about as long as each other, and gives the
// number, from 1, of the part that each piece belongs to. The longest piece goes first, and each to the
// part that has least. The answer depends on its arguments only, so that
// machines which know nothing of each other come to the same one.
func Balance(seconds []float64, parts int) []int {
	seconds = slices.Clone(seconds)
	for i, s := range seconds {
		seconds[i] = cmp.Or(s, unknownS)
	}
	order := make([]int, len(seconds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(seconds[b], seconds[a]) })
	loads := make([]float64, parts)
	part := make([]int, len(seconds))
	for _, i := range order {
		least := slices.Index(loads, slices.Min(loads))
		loads[least] += seconds[i]
		part[i] = least + 1
	}
	return part
}

// take leaves the selection's share of the cells in the plan, and returns what is recorded of
// that. Cells that are compared with each other stay together.
func (p *Plan) take(sel Selection, s selected) (*results.Shard, error) {
	subject, err := kernel.NamedSubject(sel.Subject)
	if err != nil {
		return nil, err
	}
	took, err := results.ReferenceSeconds(subject.Path(results.ReferenceFolder))
	if err != nil {
		return nil, err
	}
	shard := &results.Shard{Index: sel.Shard.Index, Of: sel.Shard.Of, Plan: []results.Planned{}}
	// piece is the number of each cell's piece of work.
	var seconds []float64
	var piece []int
	pieces := map[string]int{}
	for _, c := range p.Cells {
		name := c.Name()
		if p.against || sel.Run != nil {
			name = c.Program.Name
		}
		if _, ok := pieces[name]; !ok {
			pieces[name] = len(seconds)
			seconds = append(seconds, 0)
		}
		piece = append(piece, pieces[name])
		pin := s.specs[slices.IndexFunc(s.specs, func(spec kernel.Spec) bool { return spec.Name == c.Kernel })].Pin.Name
		seconds[pieces[name]] += cmp.Or(took(pin, c.Variant, c.Kernel, c.Program.Name), unknownS)
	}
	part := Balance(seconds, shard.Of)
	var mine []CellSpec
	for i, c := range p.Cells {
		shard.Plan = append(shard.Plan, results.Planned{
			Kernel: c.Kernel, Variant: c.Variant, Program: c.Program.Name, Iteration: c.Iteration, Shard: part[piece[i]],
		})
		if part[piece[i]] == shard.Index {
			mine = append(mine, c)
		}
	}
	p.Cells = mine
	return shard, nil
}
