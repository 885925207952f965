package quorum

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// searches is how many searches each row of the table is made of:
// go test ./vmtest/bisect/quorum -run Right -v -searches 1000 -timeout 2h
var searches = flag.Int("searches", 0, "searches for each number of commits and rate, 0 for a few")

// capacity is how many bits of the culprit one run can tell at most, when bad kernels
// fail at a rate (a Z-channel).
func capacity(rate float64) float64 {
	if rate >= 1 {
		return 1
	}
	pass := 1 - rate
	return math.Log2(1 + rate*math.Pow(pass, pass/rate))
}

// one is the cost of any run here.
func one(int) float64 { return 1 }

// simulate searches n commits in a line until it is as sure as wished.
func simulate(random *rand.Rand, n int, rate, confidence float64) (right bool, runs int) {
	prior := make([]float64, n)
	for i := range prior {
		prior[i] = 1
	}
	s := New(prior, nil)
	culprit := random.IntN(n)
	for failures := 0; failures < EndFailures; {
		failed := random.Float64() < rate
		if failed {
			failures++
		}
		s.Ran(n-1, failed)
	}
	for {
		best, p := s.Best()
		if p >= confidence {
			return best == culprit, runs
		}
		c, ok := s.Next(one)
		if !ok {
			return best == culprit, runs
		}
		s.Ran(c, c >= culprit && random.Float64() < rate)
		runs++
	}
}

// halve is git bisect with a number of runs for each step.
func halve(random *rand.Rand, n int, rate float64, count int) (right bool, runs int) {
	culprit := random.IntN(n)
	low, high := -1, n-1
	for high-low > 1 {
		mid := (low + high) / 2
		failed := false
		for range count {
			runs++
			if failed = mid >= culprit && random.Float64() < rate; failed {
				break
			}
		}
		if failed {
			high = mid
		} else {
			low = mid
		}
	}
	return high == culprit, runs
}

// The search is right at least as often as it says, and needs little more runs than
// any search must.
func TestRightAsOftenAsItSays(t *testing.T) {
	const confidence = 0.95
	tries, sizes := 60, []int{8, 64}
	if *searches > 0 {
		tries, sizes = *searches, []int{8, 16, 32, 64, 128, 256, 512, 1024}
	}
	random := rand.New(rand.NewPCG(1, 2))
	table := "commits  rate   right  runs  bound  ratio | git bisect, COUNT for the same: right  runs\n"
	for _, n := range sizes {
		for _, rate := range []float64{1, 0.9, 0.5, 0.2, 0.1, 0.05} {
			right, runs := 0, 0
			for range tries {
				ok, took := simulate(random, n, rate, confidence)
				runs += took
				if ok {
					right++
				}
			}
			count := 1
			for math.Pow(1-math.Pow(1-rate, float64(count)), math.Log2(float64(n))/2+1) < confidence {
				count++
			}
			gitRight, gitRuns := 0, 0
			for range tries {
				ok, took := halve(random, n, rate, count)
				gitRuns += took
				if ok {
					gitRight++
				}
			}
			part, mean := float64(right)/float64(tries), float64(runs)/float64(tries)
			bound := math.Log2(float64(n)) / capacity(rate)
			table += fmt.Sprintf("%7d  %.2f  %.3f %6.1f %6.1f   %.2f | %3d  %.3f %6.1f\n", n, rate, part, mean, bound, mean/bound, count,
				float64(gitRight)/float64(tries), float64(gitRuns)/float64(tries))
			// Three standard deviations of what so few tries tell.
			if least := confidence - 3*math.Sqrt(confidence*(1-confidence)/float64(tries)); part < least {
				t.Errorf("%d commits at rate %.2f: right in %.3f of %d; want %.2f", n, rate, part, tries, confidence)
			}
			// As many tries vary by a twentieth.
			if mean/bound > 1.5*1.05 {
				t.Errorf("%d commits at rate %.2f: %.1f runs; no search can do with less than %.1f", n, rate, mean, bound)
			}
		}
	}
	t.Log("\n" + table)
}

// branched makes a history of about n commits whose merges join up to most branches: for
// each the numbers of those in its own history, the bad end last.
func branched(random *rand.Rand, n, most int) [][]int {
	var in [][]bool
	commit := func(parents ...int) int {
		mine := make([]bool, len(in)+1)
		mine[len(in)] = true
		for _, p := range parents {
			for c, there := range in[p] {
				mine[c] = mine[c] || there
			}
		}
		in = append(in, mine)
		return len(in) - 1
	}
	heads := []int{commit()}
	join := func(k int) {
		heads = append(slices.Clone(heads[k:]), commit(heads[:k]...))
	}
	for len(in) < n {
		switch i := random.IntN(len(heads)); random.IntN(6) {
		case 0:
			heads = append(heads, commit(random.IntN(len(in))))
		case 1:
			join(min(most, len(heads)))
		default:
			heads[i] = commit(heads[i])
		}
	}
	for len(heads) > 1 {
		join(min(most, len(heads)))
	}
	var histories [][]int
	for _, mine := range in {
		var list []int
		for c, there := range mine {
			if there {
				list = append(list, c)
			}
		}
		histories = append(histories, list)
	}
	return histories
}

// So it is where branches are merged, two or more at once: a pass says nothing of those
// that are not in the commit's history.
func TestRightWithMerges(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 6} {
		for _, rate := range []float64{1, 0.6, 0.2} {
			n := max(*searches, 300)
			random := rand.New(rand.NewPCG(uint64(most), uint64(100*rate)))
			right := 0
			for range n {
				histories := branched(random, 4+random.IntN(37), most)
				prior := make([]float64, len(histories))
				for c := range prior {
					prior[c] = 1
				}
				s, last := New(prior, histories), len(histories)-1
				culprit := random.IntN(len(histories))
				run := func(c int) bool {
					failed := slices.Contains(histories[c], culprit) && random.Float64() < rate
					s.Ran(c, failed)
					return failed
				}
				for failures := 0; failures < EndFailures; {
					if run(last) {
						failures++
					}
				}
				best, p := s.Best()
				for p < 0.95 {
					c, ok := s.Next(one)
					if !ok {
						break
					}
					run(c)
					best, p = s.Best()
				}
				if best == culprit {
					right++
				}
			}
			share := float64(right) / float64(n)
			t.Logf("merges of up to %d, rate %.1f: right in %.3f of %d searches", most, rate, share, n)
			// Chance makes 0.013 of 300.
			if share < 0.95-0.03 {
				t.Errorf("merges of up to %d, rate %.1f: right in %.3f of %d searches; want at least 0.95", most, rate, share, n)
			}
		}
	}
}
