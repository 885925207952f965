package html

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"

	"patchproof/results"
	"patchproof/results/seal"
)

// search is what the page shows of the record of a search.
type search struct {
	Trials []trial `json:"trials"`
	Answer struct {
		Outcome string `json:"outcome"`
		Text    string `json:"text"`
	} `json:"answer"`
	// Told is the answer in full, as it was printed.
	Told string `json:"told"`
}

// trial is a kernel that was tried.
type trial struct {
	Title string `json:"title"`
	Role  string `json:"role"`
	Mark  string `json:"mark"`
	Why   string `json:"why"`
	// Figure is there where a figure is searched for, and not when one is not to be had.
	Figure *float64 `json:"figure"`
	WallS  float64  `json:"wall_s"`
}

// readSearch reads the search that the run belongs to, if it belongs to one.
func readSearch(run *results.Run) (search, bool) {
	for _, name := range []string{"bisect.json", "bisect-config.json"} {
		var s search
		doc, _, err := seal.Read(filepath.Join(run.Dir, name))
		if err == nil && json.Unmarshal(doc, &s) == nil && len(s.Trials) > 0 {
			return s, true
		}
	}
	return search{}, false
}

// patchNumber is how a search names a kernel of a series.
var patchNumber = regexp.MustCompile(`^patch (\d+) of \d+`)

// path draws the way of a search through the patches of a series. Of a history of
// commits there is the table only.
func path(run *results.Run) []figure {
	s, ok := readSearch(run)
	if !ok {
		return nil
	}
	p := plot{figure: figure{
		Title:   "The way of the search",
		Caption: "The kernels in the order in which they were tried: how many patches of the series each has, and whether it showed what was searched for.",
		Head:    []string{"tried", "kernel", "as", "came out", "why", "took"},
	}, chart: chart{xName: "in the order tried"}}
	measured := slices.ContainsFunc(s.Trials, func(t trial) bool { return t.Figure != nil })
	if measured {
		p.Title, p.Caption = "The figure of each kernel", "In the order in which they were tried: what was measured, and which end it is nearer to."
	}
	var way, good, bad struct{ x, y []float64 }
	for i, t := range s.Trials {
		x := float64(i + 1)
		p.Rows = append(p.Rows, []string{number(x), t.Title, t.Role, t.Mark, t.Why, fmt.Sprintf("%.1f s", t.WallS)})
		y := 0.0
		if m := patchNumber.FindStringSubmatch(t.Title); measured {
			if t.Figure == nil {
				continue
			}
			y = *t.Figure
		} else if m != nil {
			y, _ = count(m[1])
		} else if i > 0 {
			// The base is the first; the others without a number are beside the way.
			continue
		}
		way.x, way.y = append(way.x, x), append(way.y, y)
		switch t.Mark {
		case "good":
			good.x, good.y = append(good.x, x), append(good.y, y)
		case "bad":
			bad.x, bad.y = append(bad.x, x), append(bad.y, y)
		}
		// In words as well, so that nothing is told by colour alone.
		p.chart.xTicks = append(p.chart.xTicks, tick(x, t.Role+": "+t.Mark))
	}
	if len(way.x) < 3 || len(good.x) == 0 || len(bad.x) == 0 {
		p.Title, p.Caption = "The kernels that were tried", "In the order in which they were tried, and whether each showed what was searched for."
		p.Wide = true
		return []figure{p.figure}
	}
	p.add("the way", way.x, way.y, false)
	// In this order bad has the warm colour.
	p.points("bad", bad.x, bad.y)
	p.points("good", good.x, good.y)
	return []figure{p.finish("path", 0)}
}
