package html

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// chart is a picture with a numeric axis each way.
type chart struct {
	// title and desc are what a screen reader says of it.
	title, desc   string
	xName         string
	xTicks        []chartdraw.Tick
	yTicks        []chartdraw.Tick
	width, height int
	lines         []line
}

// line is one series of a chart, or a bar where it is thick.
type line struct {
	ink   int
	x, y  []float64
	thick float64
	// dots marks each point; a loose line has nothing but those.
	dots, loose bool
}

// Inks are the colours that lines are drawn with: custom properties of the style
// sheet, so that they follow the reader's light or dark mode. Each has a dash
// pattern of its own, so that no line is told by its colour alone.
const (
	inkNone = iota
	inkText
	inkRule
	inkFirst
)

var dashes = [][]float64{nil, {7, 4}, {2, 3}, {10, 3, 2, 3}, {14, 4}, {4, 2}, {1, 4}, {8, 2, 2, 2, 2, 2}}

// inkOf is the ink of the nth series.
func inkOf(n int) int { return inkFirst + n%len(dashes) }

func dashOf(ink int) []float64 { return dashes[(ink-inkFirst)%len(dashes)] }

// colour is the stand-in for an ink while the library draws.
func colour(ink int) drawing.Color { return drawing.Color{R: 250, G: 1, B: uint8(ink), A: 255} }

var (
	standIn   = regexp.MustCompile(`rgb\(250,1,(\d+)\)`)
	styleAttr = regexp.MustCompile(`style="([^"]*)"`)
)

// svg draws the chart. What the library writes as style attributes become
// attributes of their own, because the page's policy allows no inline style.
func (c chart) svg(id string) (template.HTML, error) {
	style := func(ink int, width float64) chartdraw.Style {
		return chartdraw.Style{StrokeColor: colour(ink), StrokeWidth: width,
			FontStyle: chartdraw.FontStyle{FontColor: colour(inkText), FontSize: 9}}
	}
	blank := chartdraw.Style{FillColor: colour(inkNone), StrokeColor: colour(inkNone), Padding: chartdraw.NewBox(8, 8, 20, 8)}
	rules := style(inkRule, 1)
	picture := chartdraw.Chart{
		Width: c.width, Height: c.height, Background: blank, Canvas: blank,
		XAxis: chartdraw.XAxis{Name: c.xName, NameStyle: style(inkText, 0), Style: style(inkRule, 1), Ticks: c.xTicks, GridMajorStyle: rules, GridMinorStyle: rules},
		// The axis at the left is what the library calls the secondary one.
		YAxis:          chartdraw.YAxis{Style: chartdraw.Hidden(), Range: &chartdraw.ContinuousRange{Max: 1}},
		YAxisSecondary: chartdraw.YAxis{Style: style(inkRule, 1), Ticks: c.yTicks, GridMajorStyle: rules, GridMinorStyle: rules},
	}
	for _, l := range c.lines {
		s := chartdraw.Style{StrokeColor: colour(l.ink), StrokeWidth: l.thick}
		if l.thick == 0 {
			s.StrokeWidth, s.StrokeDashArray = 2, dashOf(l.ink)
		}
		if l.dots {
			s.DotColor, s.DotWidth = colour(l.ink), 3
		}
		if l.loose {
			s.StrokeColor, s.DotWidth = colour(inkNone), 5
		}
		picture.Series = append(picture.Series, chartdraw.ContinuousSeries{Style: s, YAxis: chartdraw.YAxisSecondary, XValues: l.x, YValues: l.y})
	}
	var out bytes.Buffer
	if err := picture.Render(chartdraw.SVG, &out); err != nil {
		return "", fmt.Errorf("drawing %q: %w", c.title, err)
	}
	text := styleAttr.ReplaceAllStringFunc(out.String(), func(attr string) string {
		var b strings.Builder
		for part := range strings.SplitSeq(styleAttr.FindStringSubmatch(attr)[1], ";") {
			if name, value, ok := strings.Cut(part, ":"); ok && name != "font-family" {
				fmt.Fprintf(&b, `%s="%s" `, name, value)
			}
		}
		return b.String()
	})
	text = standIn.ReplaceAllString(text, "var(--ink-$1)")
	open := fmt.Sprintf(`<svg role="img" aria-labelledby="%s-title %s-desc" width="%d" height="%d" `, id, id, c.width, c.height)
	head := fmt.Sprintf(`<title id="%s-title">%s</title><desc id="%s-desc">%s</desc>`,
		id, template.HTMLEscapeString(c.title), id, template.HTMLEscapeString(c.desc))
	text = strings.Replace(text, "<svg ", open, 1)
	text = strings.Replace(text, ">", ">"+head, 1)
	return template.HTML(text), nil
}

// swatch is a line of the legend.
func swatch(ink int, thick float64) template.HTML {
	dash := ""
	if d := dashOf(ink); d != nil && thick == 0 {
		dash = fmt.Sprintf(` stroke-dasharray="%s"`, strings.Trim(fmt.Sprint(d), "[]"))
	}
	return template.HTML(fmt.Sprintf(`<svg class="swatch" width="28" height="10" aria-hidden="true"><path d="M0 5H28" stroke="var(--ink-%d)" stroke-width="%g"%s/></svg>`, ink, max(2, thick), dash))
}

// spot is a mark of the legend.
func spot(ink int) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="swatch" width="12" height="12" aria-hidden="true"><circle cx="6" cy="6" r="5" fill="var(--ink-%d)"/></svg>`, ink))
}

func tick(value float64, label string) chartdraw.Tick {
	return chartdraw.Tick{Value: value, Label: label}
}

// ticks are round numbers from below low to above high, about n of them.
func ticks(low, high float64, n int) []chartdraw.Tick {
	if high <= low {
		high = low + max(1, math.Abs(low))
	}
	step := math.Pow(10, math.Floor(math.Log10((high-low)/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*f) <= float64(n) {
			step *= f
			break
		}
	}
	var list []chartdraw.Tick
	for i := math.Floor(low / step); ; i++ {
		v := i * step
		list = append(list, tick(v, number(v)))
		if v >= high {
			return list
		}
	}
}

// number prints a figure as people write it: up to four digits after the point.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e4)/1e4, 'f', -1, 64)
}
