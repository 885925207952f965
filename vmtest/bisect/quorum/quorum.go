// Package quorum searches for the first bad commit where a bad kernel fails now
// and then only.
//
// It holds a belief of which commit is the first bad one and how often a bad kernel
// fails, and changes it by Bayes' rule with each run: a failure says that the culprit
// is in the history of the commit that was run, a pass says so of the rest, the less
// the rarer failures are. What to run next is the commit whose outcome tells most of
// the culprit for what it costs. Nothing here knows of kernels.
package quorum

import (
	"math"
	"slices"
)

// rates are how often a bad kernel may fail, and weights how likely each is before
// anything ran. That it fails always must not be too likely then: a rate of a half
// would look so for too long (measured with 0.4, 0.2 and 0.1).
//
// They go on well below what a search can still find: near the least of them it says more
// than it knows. At 0.03 it was right in 0.73 of 500 searches at 80 % where they ended at
// 0.017, and in 0.80 since.
var rates, weights = func() (rates, weights []float64) {
	const always = 0.1
	rates, weights = []float64{1}, []float64{always}
	for r := 0.97; r > 0.004; r *= 0.8 {
		rates = append(rates, r)
	}
	for range len(rates) - 1 {
		weights = append(weights, (1-always)/float64(len(rates)-1))
	}
	return rates, weights
}()

// EndFailures is how often the bad end should have failed before a search begins:
// that tells the rate for what no other run costs, a kernel that is built. With 3 all
// runs together were as many (7 % fewer at a rate of 0.05), but more of other kernels.
const EndFailures = 4

// falseAlarm is how often a good kernel shows what is searched for.
const falseAlarm = 1e-5

// Search is a search under way among candidates, numbered from 0 so that each comes
// after those in its history.
type Search struct {
	// histories holds for each candidate those in its history and itself; nil where
	// the candidates are a line and these are all before it.
	histories [][]int
	// belief is the probability of each candidate, and in it of each rate.
	belief [][]float64
	// closed are candidates that cannot be run.
	closed []bool
}

// New begins a search. Histories are as in Search; prior is how likely each
// candidate is, in any unit, 0 for one that cannot be the culprit.
func New(prior []float64, histories [][]int) *Search {
	s := &Search{histories: histories, closed: make([]bool, len(prior))}
	for _, p := range prior {
		row := make([]float64, len(rates))
		for k, w := range weights {
			row[k] = p * w
		}
		s.belief = append(s.belief, row)
	}
	s.normalise()
	return s
}

// each calls f with the candidates in the history of one.
func (s *Search) each(of int, f func(int)) {
	if s.histories == nil {
		for c := range of + 1 {
			f(c)
		}
		return
	}
	for _, c := range s.histories[of] {
		f(c)
	}
}

// Ran takes the outcome of a run.
func (s *Search) Ran(candidate int, failed bool) {
	inHistory := make([]bool, len(s.belief))
	s.each(candidate, func(c int) { inHistory[c] = true })
	for c, row := range s.belief {
		for k := range row {
			fails := falseAlarm
			if inHistory[c] {
				fails = max(rates[k], falseAlarm)
			}
			if failed {
				row[k] *= fails
			} else {
				row[k] *= 1 - fails
			}
		}
	}
	s.normalise()
}

// Close says that a candidate cannot be run.
func (s *Search) Close(candidate int) { s.closed[candidate] = true }

// Exclude says that a candidate is not the culprit.
func (s *Search) Exclude(candidate int) {
	clear(s.belief[candidate])
	s.normalise()
}

func (s *Search) normalise() {
	sum := 0.
	for _, row := range s.belief {
		for _, p := range row {
			sum += p
		}
	}
	for _, row := range s.belief {
		for k := range row {
			row[k] /= sum
		}
	}
}

// probabilities is how likely each candidate is.
func (s *Search) probabilities() []float64 {
	all := make([]float64, len(s.belief))
	for c, row := range s.belief {
		for _, p := range row {
			all[c] += p
		}
	}
	return all
}

// Best is the likeliest culprit and its probability.
func (s *Search) Best() (candidate int, p float64) {
	all := s.probabilities()
	for c := range all {
		if all[c] > all[candidate] {
			candidate = c
		}
	}
	return candidate, all[candidate]
}

// Likely are the fewest candidates that together have at least a probability, the
// likeliest first.
func (s *Search) Likely(p float64) []int {
	all := s.probabilities()
	order := make([]int, len(all))
	for c := range order {
		order[c] = c
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if all[a] > all[b] {
			return -1
		}
		if all[a] < all[b] {
			return 1
		}
		return 0
	})
	sum := 0.
	for i, c := range order {
		if sum += all[c]; sum >= p {
			return order[:i+1]
		}
	}
	return order
}

// Rate is how often a bad kernel fails, as far as is known.
func (s *Search) Rate() float64 {
	mean := 0.
	for _, row := range s.belief {
		for k, p := range row {
			mean += p * rates[k]
		}
	}
	return mean
}

// entropy of a coin, in bits.
func entropy(p float64) float64 {
	if p <= 0 || p >= 1 {
		return 0
	}
	return -p*math.Log2(p) - (1-p)*math.Log2(1-p)
}

// Next is the candidate to run: the one that tells most of the culprit for its cost.
// ok is false when no run tells anything.
func (s *Search) Next(cost func(candidate int) float64) (candidate int, ok bool) {
	n := len(s.belief)
	// For each candidate as the culprit: how likely it is, how likely it is and a
	// kernel that has it fails, and what is open then of a run of such a kernel.
	is, fails, open := make([]float64, n), make([]float64, n), make([]float64, n)
	for c, row := range s.belief {
		for k, p := range row {
			is[c] += p
			fails[c] += p * rates[k]
		}
		if is[c] > 0 {
			open[c] = is[c] * entropy(fails[c]/is[c])
		}
	}
	best := 1e-12
	try := func(c int, failsOf, openOf float64) {
		if s.closed[c] {
			return
		}
		if tells := (entropy(failsOf) - openOf) / cost(c); tells > best {
			candidate, best, ok = c, tells, true
		}
	}
	sumFails, sumOpen := 0., 0.
	for c := range n {
		if s.histories == nil {
			sumFails, sumOpen = sumFails+fails[c], sumOpen+open[c]
		} else {
			sumFails, sumOpen = 0, 0
			for _, h := range s.histories[c] {
				sumFails, sumOpen = sumFails+fails[h], sumOpen+open[h]
			}
		}
		try(c, sumFails, sumOpen)
	}
	return candidate, ok
}
