package patches

import (
	"slices"
	"strings"
	"unicode"
)

// squeeze takes all white space out of a line, for comparing beyond indentation.
func squeeze(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, line)
}

// slack is by how many lines, in the tree, a place may be stretched or shrunk by
// insertions and deletions and still count as one place.
const slack = 8

// nearest finds the index at which the image is most like want, or -1 when they
// have no line in common. Each common line votes for the distance between its two
// places, a rare line with more weight than a brace; votes for nearly the same
// distance, which lines inserted in between cause, support each other.
func (img *image) nearest(want []string, at int) int {
	where := map[string][]int{}
	for i, line := range img.lines {
		if key := squeeze(line); key != "" {
			where[key] = append(where[key], i)
		}
	}
	// votes[d] is for the want's first line standing at d-len(want).
	votes := make([]float64, len(img.lines)+len(want)+1)
	for i, line := range want {
		places := where[squeeze(line)]
		for _, place := range places {
			votes[place-i+len(want)] += 1 / float64(len(places))
		}
	}
	best, bestScore := -1, 0.0
	for d, own := range votes {
		if own == 0 {
			continue
		}
		score := own / 2
		for _, v := range votes[max(d-slack, 0):min(d+slack+1, len(votes))] {
			score += v / 2
		}
		// The further from where the hunk says, the less likely it was meant.
		pos := d - len(want)
		score *= 1 - float64(max(pos-at, at-pos))/float64(2*len(votes))
		if score > bestScore {
			best, bestScore = pos, score
		}
	}
	if bestScore == 0 {
		return -1
	}
	return max(best, 0)
}

// side sets all of want before the tree's lines at the place the hunk names.
func (img *image) side(want []string, at int) []Row {
	var rows []Row
	for _, line := range want {
		rows = append(rows, Row{Side: Want, Text: line})
	}
	at = min(at, max(len(img.lines)-len(want), 0))
	for i := at; i < min(at+len(want), len(img.lines)); i++ {
		rows = append(rows, Row{Side: Tree, Line: i + 1, Text: img.lines[i]})
	}
	return rows
}

// compare aligns want with the image's lines around pos.
func (img *image) compare(want []string, pos int) []Row {
	// A hunk of this many lines deletes a file or rewrites it; the quadratic table
	// would cost more than the answer is worth.
	const most = 1500
	if len(want) > most {
		want = want[:most]
	}
	from := max(pos-slack, 0)
	have := img.lines[from:min(pos+len(want)+slack, len(img.lines))]
	a := alignment{want: want, have: have, wantKeys: squeezeAll(want), haveKeys: squeezeAll(have), count: map[string]int{}}
	for _, line := range img.lines {
		a.count[squeeze(line)]++
	}
	a.weigh()
	return trimEdges(a.rows(from))
}

// alignment is the heaviest common subsequence of what a hunk wants and what the tree has. Lines that
// differ in white space alone are paired, not equal.
type alignment struct {
	want, have []string
	// The keys are the lines without white space, and count says how often each is in the whole file.
	wantKeys, haveKeys []string
	count              map[string]int
	// heaviest[i][j] is the weight of want[i:] and have[j:].
	heaviest [][]int
}

// pair is the weight of two lines side by side. A pair of rare lines says more than a
// pair of braces, an exact one more than one of other white space.
func (a *alignment) pair(i, j int) int {
	w := 200 + 800/a.count[a.haveKeys[j]]
	switch {
	case a.want[i] == a.have[j]:
		return w
	case a.wantKeys[i] == a.haveKeys[j] && a.wantKeys[i] != "":
		return w - 10
	}
	return 0
}

// skip is what a line of the tree costs that is left out before want[i].
func (a *alignment) skip(i int) int {
	if i == 0 || i == len(a.want) {
		return 0
	}
	return 100
}

// weigh fills the table.
func (a *alignment) weigh() {
	a.heaviest = make([][]int, len(a.want)+1)
	for i := range a.heaviest {
		a.heaviest[i] = make([]int, len(a.have)+1)
	}
	for i := len(a.want) - 1; i >= 0; i-- {
		for j := len(a.have) - 1; j >= 0; j-- {
			best := max(a.heaviest[i+1][j], a.heaviest[i][j+1]-a.skip(i))
			if w := a.pair(i, j); w > 0 {
				best = max(best, a.heaviest[i+1][j+1]+w)
			}
			a.heaviest[i][j] = best
		}
	}
}

// rows walks through the table. The tree's lines are numbered behind from.
func (a *alignment) rows(from int) []Row {
	var rows []Row
	i, j := 0, 0
	for i < len(a.want) || j < len(a.have) {
		paired := false
		if i < len(a.want) && j < len(a.have) {
			w := a.pair(i, j)
			paired = w > 0 && a.heaviest[i][j] == a.heaviest[i+1][j+1]+w
		}
		switch {
		case paired && a.want[i] == a.have[j]:
			rows = append(rows, Row{Both, from + j + 1, a.have[j]})
			i, j = i+1, j+1
		case paired:
			rows = append(rows, Row{Want, 0, a.want[i]}, Row{Tree, from + j + 1, a.have[j]})
			i, j = i+1, j+1
		case j == len(a.have) || i < len(a.want) && a.heaviest[i+1][j] >= a.heaviest[i][j+1]-a.skip(i):
			rows = append(rows, Row{Want, 0, a.want[i]})
			i++
		default:
			rows = append(rows, Row{Tree, from + j + 1, a.have[j]})
			j++
		}
	}
	return rows
}

func squeezeAll(lines []string) []string {
	keys := make([]string, len(lines))
	for i, line := range lines {
		keys[i] = squeeze(line)
	}
	return keys
}

// trimEdges drops the tree's lines around the place, except as many as expected
// lines are missing there: those are what the tree has instead.
func trimEdges(rows []Row) []Row {
	trim := func() {
		wanted, treed := 0, 0
		for _, r := range rows {
			if r.Side == Both {
				break
			}
			if r.Side == Want {
				wanted++
			} else {
				treed++
			}
		}
		drop := max(treed-wanted, 0)
		rows = slices.DeleteFunc(rows, func(r Row) bool {
			if r.Side == Tree && drop > 0 {
				drop--
				return true
			}
			return false
		})
	}
	trim()
	slices.Reverse(rows)
	trim()
	slices.Reverse(rows)
	lead := slices.IndexFunc(rows, func(r Row) bool { return r.Side == Both })
	if lead > 0 {
		slices.SortStableFunc(rows[:lead], func(a, b Row) int { return int(a.Side - b.Side) })
	}
	return rows
}
