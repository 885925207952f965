package bisect

import (
	"math"

	"patchproof/kernel"
)

// odds is how sure a search can be of its answer.
type odds struct {
	// failed of runs on bad kernels showed the signature.
	failed, runs int
	// passes holds, for each kernel held to be good, how often it passed.
	passes []int
	// cured is how often the bad end passed with the culprit taken out.
	cured int
}

// rate estimates how often a bad kernel fails, by Laplace's rule: three failures
// in three runs are not a proof that it always does.
func (o odds) rate() float64 {
	return float64(o.failed+1) / float64(o.runs+2)
}

// confidence is the probability that no good kernel passed by luck, and that, if
// one did, the cure is not luck as well:
//
//	1 - (1 - (1-q^n1)(1-q^n2)...) q^c,   q = 1 - rate
//
// for good kernels that passed n1, n2, ... times and a cured one that passed c times.
func (o odds) confidence() float64 {
	q := 1 - o.rate()
	sure := 1.0
	for _, n := range o.passes {
		sure *= 1 - math.Pow(q, float64(n))
	}
	return 1 - (1-sure)*math.Pow(q, float64(o.cured))
}

// oddsOf counts the trials of a finished search.
func oddsOf(r *Record, sig signature) odds {
	var o odds
	for _, t := range r.Trials {
		switch {
		case t.Role == roleWithout || t.SameAs != "":
		case t.Role == roleRevert:
			if t.Mark == kernel.Good {
				o.cured = len(t.Cells)
			}
		case t.Mark == kernel.Bad:
			for _, c := range t.Cells {
				o.runs++
				if _, ok := sig.shows(c); ok {
					o.failed++
				}
			}
		case t.Mark == kernel.Good:
			o.passes = append(o.passes, len(t.Cells))
		}
	}
	return o
}
