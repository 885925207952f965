package patchcheck

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"patchproof/guest/event"
)

// most is how many sizes, and checks that are worse, are told of a patch; the report has all.
const most = 5

// Text is what people are told of a patch: the findings, and the figures that changed.
func (c Checked) Text() string {
	var b strings.Builder
	booted := 0
	for _, f := range c.Findings {
		if f.Tool == ToolBoot {
			if booted++; booted > most {
				continue
			}
		}
		fmt.Fprintf(&b, "  %s\n", event.Printable(f.String()))
	}
	if booted > most {
		fmt.Fprintf(&b, "  %s: %d more such checks, all in patchcheck.json\n", ToolBoot, booted-most)
	}
	for _, line := range c.Unchecked {
		fmt.Fprintf(&b, "  not checked: %s\n", event.Printable(line))
	}
	for _, figures := range []struct {
		what    string
		changes []Change
	}{{"size", c.Sizes}, {"stack", c.Stack}} {
		if len(figures.changes) == 0 {
			continue
		}
		sum := 0
		var shown []string
		for i, change := range figures.changes {
			sum += change.New - change.Old
			if i < most {
				shown = append(shown, fmt.Sprintf("%s %d -> %d", change.Name, change.Old, change.New))
			}
		}
		if more := len(figures.changes) - most; more > 0 {
			shown = append(shown, fmt.Sprintf("%d more", more))
		}
		total := ""
		if figures.what == "size" {
			total = fmt.Sprintf(" %+d", sum)
		}
		fmt.Fprintf(&b, "  %s%s bytes: %s\n", figures.what, total, event.Printable(strings.Join(shown, ", ")))
	}
	if c.Boot != "" && !c.brings(ToolBoot) {
		fmt.Fprintf(&b, "  boot: %s\n", event.Printable(c.Boot))
	}
	fmt.Fprintf(&b, "  %s\n", c.verdict())
	return b.String()
}

func (c Checked) verdict() string {
	switch {
	case c.Passes() && c.Builds:
		return "passes"
	case c.Passes():
		return "passes, but the kernel does not build, with it or without"
	}
	return "DOES NOT PASS"
}

// Answer is the outcome in a sentence or two.
func (r *Report) Answer() string {
	var bad []string
	builds, boots := true, true
	for _, c := range r.Patches {
		if !c.Passes() {
			bad = append(bad, fmt.Sprint(c.Number))
		}
		builds, boots = builds && c.Builds, boots && c.Boots
	}
	of := fmt.Sprintf("All %d patches pass.", len(r.Patches))
	switch {
	case len(bad) > 0:
		of = fmt.Sprintf("%d of %d patches pass; not so: %s.", len(r.Patches)-len(bad), len(r.Patches), strings.Join(bad, ", "))
	case len(r.Patches) == 1:
		of = "The patch passes."
	}
	each := "after each of them"
	if len(r.Patches) == 1 {
		each = "with it"
	}
	broken, worse := r.broughtAt(ToolBuild), r.broughtAt(ToolBoot)
	if broken != "" {
		of += " The kernel stops building at " + broken
		if r.Patches[len(r.Patches)-1].Builds {
			of += ", so the series cannot be bisected"
		}
		of += "."
	}
	if worse != "" {
		of += " The boot gets worse at " + worse + "."
	}
	switch {
	case broken != "" || worse != "":
	case !builds:
		of += " The kernel does not build, with the patches or without."
	case boots:
		of += " The kernel builds and boots " + each + "."
	default:
		of += " The kernel builds " + each + "."
	}
	return of
}

// brings says that the patch has an error or a warning of that tool.
func (c Checked) brings(tool string) bool {
	return slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Tool == tool && f.Level != Remark })
}

// broughtAt names the patches with an error or a warning of that tool.
func (r *Report) broughtAt(tool string) string {
	var at []string
	for _, c := range r.Patches {
		if c.brings(tool) {
			at = append(at, fmt.Sprintf("patch %d (%s)", c.Number, event.Printable(c.Subject)))
		}
	}
	return strings.Join(at, " and ")
}

// b4Check is what b4 takes from a command that checks a patch for its reviews.
type b4Check struct {
	Tool    string `json:"tool"`
	Status  string `json:"status"` // pass, warn or fail
	Summary string `json:"summary"`
	URL     string `json:"url,omitempty"`
	Details string `json:"details,omitempty"`
}

// b4Finding is how the details tell of one thing; they are JSON in a string.
type b4Finding struct {
	Status      string `json:"status"`
	Description string `json:"description"`
}

var b4Status = map[Level]string{Error: "fail", Warning: "warn", Remark: "warn"}

// b4 is the patch's outcome, a check for each tool that said something.
func (c Checked) b4() []b4Check {
	var tools []string
	by := map[string][]Finding{}
	for _, f := range c.Findings {
		if !slices.Contains(tools, f.Tool) {
			tools = append(tools, f.Tool)
		}
		by[f.Tool] = append(by[f.Tool], f)
	}
	if len(tools) == 0 {
		check := b4Check{Tool: "patchproof", Status: "pass", Summary: c.verdict()}
		if len(c.Unchecked) > 0 || !c.Builds {
			check.Status, check.Details = "warn", strings.Join(c.Unchecked, "\n")
		}
		return []b4Check{check}
	}
	var all []b4Check
	for _, tool := range tools {
		check := b4Check{Tool: "patchproof-" + tool, Status: "warn", Summary: fmt.Sprintf("%d new", len(by[tool]))}
		var details []b4Finding
		for _, f := range by[tool] {
			if f.Level == Error {
				check.Status = "fail"
			}
			details = append(details, b4Finding{b4Status[f.Level], f.String()})
		}
		text, err := json.Marshal(details)
		if err != nil {
			// They are strings.
			panic(err)
		}
		check.Details = string(text)
		all = append(all, check)
	}
	return all
}

var sarifLevel = map[Level]string{Error: "error", Warning: "warning", Remark: "note"}

// sarif has a result for each finding, with the patch that brought it.
func (r *Report) sarif() *sarif.Report {
	doc := sarif.NewReport()
	run := sarif.NewRun().WithTool(sarif.NewTool().WithDriver(sarif.NewToolComponent().WithName("patchproof"))).WithResults([]*sarif.Result{})
	for _, c := range r.Patches {
		for _, f := range c.Findings {
			rule := f.Tool
			if f.Rule != "" {
				rule += "/" + f.Rule
			}
			run.AddRule(rule)
			result := run.CreateResultForRule(rule).WithLevel(sarifLevel[f.Level]).
				WithMessage(sarif.NewTextMessage(fmt.Sprintf("%s (patch %d: %s)", f.Message, c.Number, c.Subject)))
			if f.File != "" && f.Line > 0 {
				result.AddLocation(sarif.NewLocationWithPhysicalLocation(sarif.NewPhysicalLocation().
					WithArtifactLocation(sarif.NewSimpleArtifactLocation(f.File)).
					WithRegion(sarif.NewRegion().WithStartLine(f.Line))))
			}
		}
	}
	doc.AddRun(run)
	return doc
}
