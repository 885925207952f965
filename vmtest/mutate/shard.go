package mutate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/patches"
	"patchproof/results"
	"patchproof/results/seal"
	"patchproof/vmtest"
)

// Take leaves a share of the mutants, and says what is recorded of that. Nobody knows
// beforehand how long one takes, so that each shard has as many.
func Take(mutants []Mutant, share vmtest.Share) ([]Mutant, *results.Shard) {
	shard := &results.Shard{Index: share.Index, Of: share.Of}
	part := vmtest.Balance(make([]float64, len(mutants)), share.Of)
	var mine []Mutant
	for i, m := range mutants {
		var ids []string
		for _, p := range m.Series.Patches {
			ids = append(ids, p.ID())
		}
		shard.Plan = append(shard.Plan, results.Planned{Mutant: m.Name, Patch: strings.Join(ids, " "), Shard: part[i]})
		if part[i] == share.Index {
			mine = append(mine, m)
		}
	}
	return mine, shard
}

// Merge gives the verdicts of all shards, in the order of their plan. A shard without one of
// its verdicts is an error.
func Merge(shards *results.Shards) ([]Verdict, error) {
	verdicts := make([]Verdict, 0, len(shards.Runs[0].Shard.Plan))
	left := map[int][]Verdict{}
	for _, run := range shards.Runs {
		file := filepath.Join(run.Dir, verdictsFile)
		text, _, err := seal.Read(file)
		var r verdictsRecord
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		none := !slices.ContainsFunc(run.Shard.Plan, func(p results.Planned) bool { return p.Shard == run.Shard.Index })
		if err != nil && !none {
			return nil, fmt.Errorf("%s has no verdicts that can be read: %s: %w; run that shard again", run.Shard, file, err)
		}
		left[run.Shard.Index] = r.Mutants
	}
	for _, p := range shards.Runs[0].Shard.Plan {
		some := left[p.Shard]
		if len(some) == 0 || some[0].Name != p.Mutant {
			return nil, fmt.Errorf("shard %d of %d lacks the verdict about %s", p.Shard, shards.Runs[0].Shard.Of, results.Line(p.Mutant))
		}
		verdicts, left[p.Shard] = append(verdicts, some[0]), some[1:]
	}
	for _, run := range shards.Runs {
		if n := len(left[run.Shard.Index]); n > 0 {
			return nil, fmt.Errorf("%s in %s has %s more than mutants", run.Shard, run.Dir, patches.Plural(n, "verdict"))
		}
	}
	return verdicts, nil
}

// Write makes a run below root of the shards and their verdicts.
func Write(root string, shards *results.Shards, verdicts []Verdict) (*results.Run, error) {
	return shards.Write(root, func(dir string) error { return writeVerdicts(dir, verdicts) })
}
