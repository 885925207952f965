package results

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchproof/guest/event"
)

func TestReadRefuses(t *testing.T) {
	cell := func(fields string) string {
		return `{"schema":1,"id":"a","status":"finished","cells":[{` + fields + `}]}`
	}
	for _, tt := range []struct{ name, doc, want string }{
		{"empty", ``, "not a run.json"},
		{"not JSON", "\x7fELF", "not a run.json"},
		{"cut short", `{"schema":1,"id":"a","status":"fin`, "not a run.json"},
		{"two documents", `{"schema":1,"id":"a","status":"finished"}{}`, "not a run.json"},
		{"other JSON", `{"version":3}`, "no schema number"},
		{"null", `null`, "no schema number"},
		{"newer", `{"schema":99,"cells":"moved"}`, "update patchproof"},
		{"wrong type", `{"schema":1,"id":"a","status":"finished","cells":{}}`, "not a run.json"},
		{"no id", `{"schema":1,"status":"finished"}`, "no id"},
		{"status", `{"schema":1,"id":"a","status":"done"}`, `"done"`},
		{"no program", cell(`"kernel":"base","verdict":"pass"`), "names no kernel or no program"},
		{"verdict", cell(`"kernel":"base","program":"nop","verdict":"PASS"`), `"PASS"`},
		{"check verdict", cell(`"kernel":"base","program":"nop","verdict":"pass","checks":[{"name":"x"}]`), `check "x"`},
		{"console", cell(`"kernel":"base","program":"nop","verdict":"pass","console":"../../etc/passwd"`), "leaves the run's folder"},
		{"no kernel", cell(`"kernel":"base","variant":"plain","program":"nop","verdict":"pass"`), `no kernel base of the variant "plain"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run.json")
			if err := os.WriteFile(path, []byte(tt.doc), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Read = %v; want an error with %q and the file's name", err, tt.want)
			}
		})
	}
}

func TestReadMissing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Read(%s) = %v; want an error that names it", path, err)
		}
	}
}

func TestReadIgnoresUnknownFields(t *testing.T) {
	r, err := decode([]byte(`{"schema":1,"id":"a","status":"finished","mood":"good","cells":[]}`))
	if err != nil || r.ID != "a" {
		t.Errorf("decode = %v, %v; want the run", r, err)
	}
}

// TestEverySchemaUpgrades fails when Schema is raised and the old run.json are
// forgotten.
func TestEverySchemaUpgrades(t *testing.T) {
	for n := 1; n < Schema; n++ {
		if upgrades[n] == nil {
			t.Errorf("schema %d has no upgrade", n)
		}
	}
}

// TestReadOldRuns reads a run.json of each age that the format has come to, named
// by its schema: 1-first as the first version of this package wrote it, the
// others by real runs.
func TestReadOldRuns(t *testing.T) {
	for _, tt := range []struct {
		file   string
		status Status
		cells  int
		exit   int
		answer string
	}{
		{"1-first.json", Finished, 2, 0, "posted: 0 of 1 program passed; 1 known issue; nothing unexpected."},
		{"1-finished.json", Finished, 4, 0, "posted: 1 of 2 programs passed as on base; 1 known issue; nothing unexpected."},
		{"1-killed.json", Running, 1, 2, "Not finished, so far 1 cell: posted: not run; nothing unexpected."},
	} {
		t.Run(tt.file, func(t *testing.T) {
			r, err := Read(filepath.Join("testdata", "runs", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != tt.status || len(r.Cells) != tt.cells || r.ExitCode() != tt.exit {
				t.Errorf("%s, %d cells, ExitCode() = %d; want %s, %d, %d", r.Status, len(r.Cells), r.ExitCode(), tt.status, tt.cells, tt.exit)
			}
			if got := Answer(r); got != tt.answer {
				t.Errorf("Answer() = %q; want %q", got, tt.answer)
			}
		})
	}
}

// FuzzRead holds that any file either is refused or can be told to people and to
// other tools, without a byte that a terminal would obey, and that no other tool
// takes a run for good that is not.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"a","status":"running","kernels":[{"name":"base"}],"cells":[]}`))
	f.Add([]byte(`{"schema":1,"id":"a","status":"finished","kernels":[{"name":"base","variant":"plain"},{"name":"posted","variant":"plain","series":["x"],"features":["\u001b[2J"]}],` +
		`"cells":[{"kernel":"posted","variant":"plain","program":"no\u0007p","verdict":"fail","expected":false,"console":"a.log","command":"qemu\n\u0000",` +
		`"checks":[{"name":"\u001b]0;x\u0007","verdict":"fail","detail":"\ud800\u202e"}],"metrics":[{"name":"x","value":1e308,"unit":""}]}]}`))
	files, err := filepath.Glob(filepath.Join("testdata", "runs", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatal("no runs in testdata: ", err)
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := decode(doc)
		if err != nil {
			return
		}
		if code := r.ExitCode(); code < 0 || code > 2 {
			t.Errorf("ExitCode() = %d", code)
		}
		var told strings.Builder
		if err := Report(&told, r, View{All: true}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(&told, Item{Run: r}.Short())
		other := *r
		other.ID += "2"
		compared := []Comparison{}
		if all, err := CompareRuns(r, &other); err == nil {
			compared = append(compared, all...)
			if ComparisonsExit(all) != 0 {
				t.Errorf("a run against itself: %+v", all)
			}
		}
		if all, err := CompareWithBase(r); err == nil {
			compared = append(compared, all...)
		}
		for _, c := range compared {
			io.WriteString(&told, c.Text())
		}
		var ktap, xmlDoc strings.Builder
		if err := errors.Join(KTAP(&ktap, r), JUnit(&xmlDoc, r)); err != nil {
			t.Fatal(err)
		}
		checkKTAP(t, r, ktap.String())
		var junit struct {
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
		}
		if err := xml.Unmarshal([]byte(xmlDoc.String()), &junit); err != nil {
			t.Errorf("JUnit() wrote no XML: %v", err)
		}
		if junit.Failures+junit.Errors == 0 && r.ExitCode() != 0 {
			t.Errorf("JUnit() says all is well; ExitCode() = %d", r.ExitCode())
		}
		io.WriteString(&told, ktap.String())
		if text := told.String(); strings.Contains(text, "\t") || event.PrintableLines(text) != text {
			t.Fatalf("what is not printable reaches the terminal in %q", text)
		}
	})
}
