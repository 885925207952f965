package console

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var corpus = flag.String("corpus", "", "a folder of logs to measure, each after a head of TITLE:, ALT: and TYPE: lines")

var (
	titledIn  = regexp.MustCompile(`(?: in|code:) ([\w.]+)$`)
	release   = regexp.MustCompile(`(?:Not tainted|Tainted: [A-Z ]+?) +(\d+)\.(\d+)`)
	notX86    = regexp.MustCompile(`(?m)pc : |Call trace:|epc : |PC is at|\bGPR\d`)
	stampedAt = regexp.MustCompile(`(?m)^(?:.*\] )?\[ *\d+\.\d{6}\]`)
)

// TestCorpus measures what other people's logs, with the titles that they expect, are
// read as. It never fails: what it prints is for a person.
func TestCorpus(t *testing.T) {
	if *corpus == "" {
		t.Skip("no -corpus")
	}
	logs, err := filepath.Glob(filepath.Join(*corpus, "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs in %s: %v", *corpus, err)
	}
	var read, missed, alarms, split, graded, named int
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		titles, log := expected(text)
		m := release.FindSubmatch(log)
		if m == nil || len(m[1]) == 1 && (m[1][0] < '5' || m[1][0] == '5' && len(m[2]) == 1 && m[2][0] < '4') || !stampedAt.Match(log) {
			continue
		}
		read++
		found := watched(string(log))
		name := filepath.Base(path)
		switch {
		case len(titles) == 0 && len(found) > 0:
			alarms++
			t.Logf("%s: false alarm: %s", name, found[0].Title)
			continue
		case len(titles) == 0:
			continue
		case len(found) == 0:
			missed++
			t.Logf("%s: missed: %s", name, titles[0])
			continue
		case len(found) > 1:
			split++
			t.Logf("%s: %d complaints: %s; %s", name, len(found), found[0].Title, found[1].Title)
		}
		var guilty []string
		for _, title := range titles {
			if m := titledIn.FindStringSubmatch(title); m != nil && m[1] != "corrupted" {
				guilty = append(guilty, m[1])
			}
		}
		if len(guilty) == 0 {
			continue
		}
		graded++
		ok := false
		for _, f := range guilty {
			ok = ok || plainName(f) == plainName(titledFunction(found[0].Title))
		}
		if ok {
			named++
			continue
		}
		arch := ""
		if notX86.Match(log) {
			arch = " (not x86)"
		}
		t.Logf("%s: %q, not %v%s", name, found[0].Title, guilty, arch)
	}
	t.Logf("%d logs: %d missed, %d false alarms, %d told as several; %d of %d name the function", read, missed, alarms, split, named, graded)
}

// expected splits a log into the titles in its head and the log itself.
func expected(text []byte) (titles []string, log []byte) {
	lines := bufio.NewReader(bytes.NewReader(text))
	for {
		line, err := lines.ReadString('\n')
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if err != nil || !ok || strings.ToUpper(key) != key || strings.ContainsAny(key, "[ ") {
			break
		}
		if key == "TITLE" || key == "ALT" || key == "FRAME" {
			titles = append(titles, value)
		}
	}
	return titles, text
}

func titledFunction(title string) string {
	if m := titledIn.FindStringSubmatch(title); m != nil {
		return m[1]
	}
	return ""
}

// BenchmarkFlood reads what a hostile guest may print; the bytes a second say how
// long 50 MB take.
func BenchmarkFlood(b *testing.B) {
	for _, flood := range []struct{ name, line string }{
		{"panics", "[   12.345851] Kernel panic - not syncing: Fatal exception\n"},
		{"other panics", "[   12.345851] Kernel panic - not syncing: out of luck\n"},
		{"warnings", "[   12.345851] WARNING: CPU: 1 PID: 512 at net/quokka/sock.c:90 quokka_bind+0x5f/0x80\n"},
		{"cut", "[   12.345851] ------------[ cut here ]------------\n"},
		{"frames", "[   12.345851]  quokka_bind+0x5f/0x80\n"},
		{"short", "[    1.000000] B\n"},
		{"stamps", "[    1.000000] [    1.000000] [    1.000000] [    1.000000] [    1.000000] BUG: x\n"},
		{"brackets", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n"},
	} {
		b.Run(flood.name, func(b *testing.B) {
			lines := strings.Split(strings.Repeat(flood.line, 50_000_000/len(flood.line)), "\n")
			b.SetBytes(50_000_000)
			for b.Loop() {
				w := &Watcher{}
				for _, line := range lines {
					w.Line(line)
				}
				w.Splats()
			}
		})
	}
}
