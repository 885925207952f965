package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"mvdan.cc/sh/v3/shell"
)

const checkout = "../.."

// page is a Markdown file as GitHub reads it.
type page struct {
	// path starts at the checkout.
	path   string
	source []byte
	root   ast.Node
}

// pages are the documents, all Markdown files of the checkout.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(checkout, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Rel(checkout, file)
			if err != nil {
				t.Fatal(err)
			}
			parser := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()
			all = append(all, page{path, source, parser.Parse(text.NewReader(source))})
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d documents; want README.md and those in docs", len(all))
	}
	return all
}

// anchors are the headings of a page as GitHub links to them.
func (p page) anchors() []string {
	var all []string
	ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if heading, ok := n.(*ast.Heading); ok && entering {
			title := strings.ToLower(string(heading.Lines().Value(p.source)))
			title = regexp.MustCompile(`[^\pL\pN\- ]`).ReplaceAllString(strings.TrimSpace(title), "")
			all = append(all, strings.ReplaceAll(title, " ", "-"))
		}
		return ast.WalkContinue, nil
	})
	return all
}

// links are the destinations of a page's links.
func (p page) links() []string {
	var all []string
	ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if link, ok := n.(*ast.Link); ok && entering {
			all = append(all, string(link.Destination))
		}
		return ast.WalkContinue, nil
	})
	return all
}

// code are the lines of a page's code blocks, and its code spans.
func (p page) code() []string {
	var all []string
	ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.CodeBlock:
			all = append(all, strings.Split(string(n.Lines().Value(p.source)), "\n")...)
		case *ast.FencedCodeBlock:
			all = append(all, strings.Split(string(n.Lines().Value(p.source)), "\n")...)
		case *ast.CodeSpan:
			var span strings.Builder
			for child := n.FirstChild(); child != nil; child = child.NextSibling() {
				if line, ok := child.(*ast.Text); ok {
					span.Write(line.Segment.Value(p.source))
					span.WriteString(" ")
				}
			}
			all = append(all, span.String())
		}
		return ast.WalkContinue, nil
	})
	return all
}

// Each link of the documents leads to a file of the tree, and to a heading where it names one.
func TestDocumentLinks(t *testing.T) {
	anchors := map[string][]string{}
	for _, p := range pages(t) {
		anchors[p.path] = p.anchors()
	}
	for _, p := range pages(t) {
		for _, link := range p.links() {
			if strings.Contains(link, "://") {
				continue
			}
			target, anchor, _ := strings.Cut(link, "#")
			path := p.path
			if target != "" {
				path = filepath.Join(filepath.Dir(p.path), target)
			}
			if _, err := os.Stat(filepath.Join(checkout, path)); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", p.path, link, err)
			}
			if anchor != "" && !slices.Contains(anchors[path], anchor) {
				t.Errorf("%s: the link %s: %s has no heading %s; it has %s", p.path, link, path, anchor, strings.Join(anchors[path], ", "))
			}
		}
	}
}

// goFiles are the texts of the tree's Go files and of the Makefile, tests left out.
func goFiles(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"Makefile", "cmd", "guest", "kernel", "patches", "results", "vmtest"} {
		err := filepath.WalkDir(filepath.Join(checkout, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") ||
				filepath.Ext(path) != ".go" && d.Name() != "Makefile" {
				return err
			}
			data, err := os.ReadFile(path)
			all.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// Each message that troubleshooting explains is one that is still given.
func TestMessagesAreGiven(t *testing.T) {
	code := goFiles(t)
	page, err := os.ReadFile(filepath.Join(checkout, "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	// What a message says of its case.
	varies := regexp.MustCompile(`[A-Z_]*=?\.\.\.|\b[NM]\b`)
	span := regexp.MustCompile("`([^`]+)`")
	checked := 0
	for line := range strings.Lines(string(page)) {
		row, ok := strings.CutPrefix(line, "| ")
		message, _, _ := strings.Cut(row, " | ")
		if !ok {
			continue
		}
		for _, m := range span.FindAllStringSubmatch(message, -1) {
			for _, part := range varies.Split(m[1], -1) {
				if checked++; !strings.Contains(code, strings.Trim(part, " ")) {
					t.Errorf("docs/troubleshooting.md explains %q; nothing says %q", m[1], part)
				}
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d parts of messages were found; the test does not see them", checked)
	}
}

// The libraries that the architecture gives reasons for are those of go.mod.
func TestLibrariesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(checkout, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(checkout, "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| library | why |")
	major := regexp.MustCompile(`(/src)?(/v[0-9]+)?$`)
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasPrefix(line, "\t") || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		name := path.Base(major.ReplaceAllString(fields[0], ""))
		if !regexp.MustCompile("[ /]" + regexp.QuoteMeta(name) + "[ ,]").MatchString(table) {
			t.Errorf("docs/architecture.md does not say why %s is in go.mod", fields[0])
		}
	}
}

// The README is read by people who have not decided yet to read on.
func TestReadmeIsShort(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) > 150 {
		t.Errorf("README.md has %d lines; want at most 150, and the rest in docs", len(lines))
	}
	for i, line := range lines {
		if n := len([]rune(line)); n > 100 {
			t.Errorf("README.md:%d has %d columns; want at most 100", i+1, n)
		}
	}
}

// command is a line of a document that runs make or patchproof: behind a prompt,
// assignments or none, and with a comment behind it or none.
var command = regexp.MustCompile(`^\s*(\$ )?((?:[A-Z_]+=\S* )*)(make|bin/patchproof|patchproof|go run \./cmd/patchproof)( .*|)$`)

// Each command of the documents is one that make and patchproof take.
func TestDocumentCommands(t *testing.T) {
	checked := 0
	for _, p := range pages(t) {
		for _, line := range p.code() {
			m := command.FindStringSubmatch(line)
			if m == nil || m[3] != "make" && strings.TrimSpace(m[4]) == "" {
				continue // not a command, or the bare name of one
			}
			args, err := shell.Fields(m[2]+"X"+m[4], func(string) string { return "" })
			if err != nil {
				t.Errorf("%s: %q is no command line: %v", p.path, line, err)
				continue
			}
			// What stands before the command is its environment.
			split := slices.Index(args, "X")
			if m[3] == "make" {
				err = checkMake(t, append(args[:split:split], args[split+1:]...))
			} else {
				_, err = parser(t).Parse(args[split+1:])
			}
			checked++
			if err != nil {
				t.Errorf("%s: %s: %v", p.path, strings.TrimSpace(line), err)
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d commands were found; the test does not see them", checked)
	}
}

// checkMake says what make, or the command that a target runs, would not take.
func checkMake(t *testing.T, args []string) error {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(checkout, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var target string
	var set []string
	for _, arg := range args {
		name, _, isVariable := strings.Cut(arg, "=")
		switch {
		case isVariable:
			set = append(set, arg, typedEnv+"="+name)
		case strings.HasPrefix(arg, "-"), arg == "...":
		case target != "":
			return fmt.Errorf("two targets, %s and %s", target, arg)
		case !regexp.MustCompile(`(?m)^(CAMPAIGNS :=.*\b)?` + regexp.QuoteMeta(arg) + `(:|\b.*$)`).Match(makefile):
			return fmt.Errorf("there is no target %s", arg)
		default:
			target = arg
		}
	}
	if slices.Contains([]string{"test", "suite"}, target) {
		target = "deps"
	}
	for i := 0; i < len(set); i += 2 {
		if err := refuse(target, set[i:i+2]); err != nil {
			return err
		}
	}
	return nil
}
