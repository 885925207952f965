package patchcheck

import (
	"context"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	symbolLine = regexp.MustCompile(`^\s*(?:menu)?config\s+(\w+)\s*$`)
	promptLine = regexp.MustCompile(`^\s*(?:(?:bool|tristate|string|int|hex)\s+["']|prompt\s)`)
	helpLine   = regexp.MustCompile(`^\s*(?:---)?help(?:---)?\s*$`)
	// endLine is what ends the entry of a symbol, beside the next one.
	endLine = regexp.MustCompile(`^\s*(?:choice|endchoice|menu|endmenu|if|endif|source|comment|mainmenu)\b`)
)

// helpless are the symbols of a Kconfig file that users are asked for and that have no
// help, with their lines.
func helpless(text string) map[string]int {
	found := map[string]int{}
	name, at, asked := "", 0, false
	end := func() {
		if asked {
			found[name] = at
		}
		name, asked = "", false
	}
	help, pad := false, 0
	number := 0
	for line := range strings.Lines(text) {
		number++
		if strings.TrimSpace(line) == "" {
			continue
		}
		if help {
			width := indent(line)
			if pad == 0 {
				pad = width
			}
			if width > 0 && width >= pad {
				continue
			}
			help = false
		}
		switch symbol := symbolLine.FindStringSubmatch(line); {
		case symbol != nil:
			end()
			name, at = symbol[1], number
		case endLine.MatchString(line):
			end()
		case helpLine.MatchString(line):
			help, pad, asked = true, 0, false
			name = ""
		case name != "" && promptLine.MatchString(line):
			asked = true
		}
	}
	end()
	return found
}

// indent is the width of the white space before a line.
func indent(line string) int {
	width := 0
	for _, r := range line {
		switch r {
		case ' ':
			width++
		case '\t':
			width = width/8*8 + 8
		default:
			return width
		}
	}
	return width
}

// checkKconfig finds the questions without help that the patch brought.
func (c *checker) checkKconfig(ctx context.Context, n int, checked *Checked) error {
	p := c.all[n].Patches()[n-1]
	var olds, names []string
	for _, f := range p.Files {
		if strings.HasPrefix(path.Base(f.Old), "Kconfig") {
			olds = append(olds, f.Old)
		}
		if strings.HasPrefix(path.Base(f.New), "Kconfig") {
			names = append(names, f.New)
		}
	}
	if len(names) == 0 {
		return nil
	}
	before, err := c.texts(ctx, n-1, olds)
	if err != nil {
		return err
	}
	// A symbol may have come from another file.
	had := map[string]int{}
	for _, text := range before {
		maps.Copy(had, helpless(text))
	}
	after, err := c.texts(ctx, n, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		has := helpless(after[name])
		for _, symbol := range slices.Sorted(maps.Keys(has)) {
			if _, old := had[symbol]; !old {
				checked.Findings = append(checked.Findings, Finding{
					Tool: ToolKconfig, Level: Warning, File: name, Line: has[symbol], Message: "config " + symbol + " has a prompt, but no help",
				})
			}
		}
	}
	return nil
}

// texts are files of the source with that many patches.
func (c *checker) texts(ctx context.Context, n int, names []string) (map[string]string, error) {
	content, err := c.lab.Builder.Content(ctx, c.all[n])
	if err != nil {
		return nil, err
	}
	return content.ReadAll(ctx, names)
}
