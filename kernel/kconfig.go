package kernel

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchproof/kernel/arch"
	"patchproof/patches/regular"
)

// symbol is what Kconfig files say about an option, all its declarations together.
type symbol struct {
	// declared tells it from one that another option selects and nobody declares.
	declared   bool
	prompt     bool
	isBool     bool     // y or n, unlike a tristate
	depends    []string // each declaration's conditions, with those around it
	selectedBy []string
}

var symbolName = regexp.MustCompile(`\b[A-Z0-9_]*[A-Z][A-Z0-9_]*\b`)

// uses returns the options that the symbol's conditions name.
func (s symbol) uses() []string {
	var all []string
	for _, d := range s.depends {
		all = append(all, symbolName.FindAllString(d, -1)...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// readKconfig reads the Kconfig files of a tree, from the top through every
// source statement, so that the if and menu blocks around one are known
// (Documentation/kbuild/kconfig-language.rst). It is for explaining only: it
// evaluates nothing.
func readKconfig(src string) (map[string]symbol, error) {
	k := kconfig{src: src, symbols: map[string]symbol{}, seen: map[string]bool{}}
	if err := k.file("Kconfig", nil); err != nil {
		return nil, err
	}
	return k.symbols, nil
}

type kconfig struct {
	src     string
	symbols map[string]symbol
	seen    map[string]bool
}

// block is an if, menu or choice that is open, or the file's own surroundings.
type block struct {
	keyword    string
	conditions []string
}

var (
	kconfigVar = strings.NewReplacer("$(SRCARCH)", arch.Target.Src, "$SRCARCH", arch.Target.Src, "$(HEADER_ARCH)", arch.Target.Src)
	// The second group is the condition under which the option can be set at all.
	boolKeyword   = regexp.MustCompile(`^(?:def_)?bool\b`)
	selectKeyword = regexp.MustCompile(`^select\s+(\w+)`)
	promptKeyword = regexp.MustCompile(`^(?:bool|tristate|string|int|hex|prompt)\s+"[^"]*"(?:\s+if\s+(.*))?`)
)

// file reads one file; outer are the conditions around its source statement.
func (k *kconfig) file(name string, outer []string) error {
	if k.seen[name] {
		return nil
	}
	k.seen[name] = true
	text, err := regular.ReadFile(filepath.Join(k.src, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p := &kconfigFile{kconfig: k, blocks: []block{{conditions: outer}}}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		if err := p.line(line); err != nil {
			return err
		}
	}
	p.endConfig()
	return nil
}

// kconfigFile is the state within one file: the open blocks and the current config entry.
type kconfigFile struct {
	*kconfig
	blocks  []block
	config  string
	prompt  bool
	isBool  bool
	depends []string
	comment bool // within a comment entry, whose conditions are its own
	inHelp  bool
	helpPad int
}

func (p *kconfigFile) conditions() []string {
	var all []string
	for _, b := range p.blocks {
		all = append(all, b.conditions...)
	}
	return all
}

func (p *kconfigFile) endConfig() {
	p.comment = false
	if p.config == "" {
		return
	}
	s := p.symbols[p.config]
	s.prompt, s.isBool, s.declared = s.prompt || p.prompt, s.isBool || p.isBool, true
	if all := append(p.conditions(), p.depends...); len(all) > 0 {
		s.depends = append(s.depends, strings.Join(all, " && "))
	}
	p.symbols[p.config] = s
	p.config, p.prompt, p.isBool, p.depends = "", false, false, nil
}

func (p *kconfigFile) line(line string) error {
	text := strings.TrimSpace(line)
	if text == "" {
		return nil
	}
	if p.inHelp {
		pad := indent(line)
		if p.helpPad == 0 {
			p.helpPad = pad
		}
		if pad >= p.helpPad && pad > 0 {
			return nil
		}
		p.inHelp = false
	}
	keyword, rest, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	rest = strings.TrimSpace(rest)
	switch keyword {
	case "config", "menuconfig":
		p.endConfig()
		p.config = rest
	case "if", "menu", "choice":
		p.endConfig()
		b := block{keyword: keyword}
		if keyword == "if" {
			b.conditions = []string{parenthesised(rest)}
		}
		p.blocks = append(p.blocks, b)
	case "endif", "endmenu", "endchoice":
		p.endConfig()
		if len(p.blocks) > 1 {
			p.blocks = p.blocks[:len(p.blocks)-1]
		}
	case "source":
		p.endConfig()
		return p.source(strings.Trim(rest, `"`))
	case "comment", "mainmenu":
		p.endConfig()
		p.comment = true
	case "depends":
		condition := parenthesised(strings.TrimSpace(strings.TrimPrefix(rest, "on")))
		last := &p.blocks[len(p.blocks)-1]
		switch {
		case p.config != "":
			p.depends = append(p.depends, condition)
		case !p.comment && (last.keyword == "menu" || last.keyword == "choice"):
			last.conditions = append(last.conditions, condition)
		}
	case "help", "---help---":
		p.inHelp, p.helpPad = true, 0
	default:
		if p.config == "" {
			return nil
		}
		p.isBool = p.isBool || boolKeyword.MatchString(text)
		if found := selectKeyword.FindStringSubmatch(text); found != nil {
			s := p.symbols[found[1]]
			s.selectedBy = append(s.selectedBy, p.config)
			p.symbols[found[1]] = s
		}
		if found := promptKeyword.FindStringSubmatch(text); found != nil {
			p.prompt = true
			if found[1] != "" {
				p.depends = append(p.depends, parenthesised(found[1]))
			}
		}
	}
	return nil
}

func (p *kconfigFile) source(name string) error {
	name = kconfigVar.Replace(name)
	if strings.Contains(name, "$") {
		return nil
	}
	return p.file(name, p.conditions())
}

// parenthesised makes a condition safe to join with others.
func parenthesised(condition string) string {
	condition, _, _ = strings.Cut(condition, "#")
	condition = strings.Join(strings.Fields(condition), " ")
	if strings.Contains(condition, "||") {
		return "(" + condition + ")"
	}
	return condition
}

// indent is the width of a line's leading white space, tabs to eight.
func indent(line string) int {
	width := 0
	for _, c := range line {
		switch c {
		case ' ':
			width++
		case '\t':
			width += 8 - width%8
		default:
			return width
		}
	}
	return width
}
