package subjects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodSubject = `
title = "a patch"
default = true
pin = "v1"
quick = ["one"]
[[kernel]]
name = "better"
series = { v1 = ["one.patch"] }
[[program]]
name = "one"
cpus = 1
memory-mib = 256
deadline = "10s"
devices = [{ kind = "nvme", size-mib = 64 }]
args = ["a=b"]
[[issue]]
programs = ["one", "two*"]
check = "c"
verdict = "fail"
reason = "r"
[[mutants]]
kernel = "better"
folder = { v1 = "one.patch" }
[bench]
command = "measure"
[[bench.group]]
name = "g"
cpus = [1]
[[figure]]
kind = "scale"
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mine")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "one.patch", "")
	write(t, dir, subjectFile, goodSubject)
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "mine" || !s.Issues[0].Covers("better", "plain", "two-fast", "c") || s.Issues[0].Covers("better", "plain", "three", "c") {
		t.Errorf("Read() = %+v; want the name mine, and an issue for the programs one and two*", s)
	}
	for old, test := range map[string]struct{ new, want string }{
		`title = "a patch"`:             {`titel = "a patch"`, "unknown key titel"},
		`args = ["a=b"]`:                {`arg = ["a=b"]`, "unknown key program.arg"},
		`kind = "nvme", `:               {`kind = "nvme", sise = 1, `, "unknown key program.devices.sise"},
		`name = "better"`:               {`name = "../better"`, "kernel: name"},
		`["one.patch"]`:                 {`["two.patch"]`, "kernel better: series v1: there is no two.patch"},
		`series = { v1 = ["one.patch"]`: {`series = { v1 = ["../one.patch"]`, "not a path below"},
		`memory-mib = 256`:              {`memory-mib = "256"`, "program.memory-mib"},
		`cpus = 1` + "\nm":              {"m", "program one: cpus is 0"},
		`"10s"`:                         {`"10"`, "program.deadline"},
		`deadline = "10s"`:              {`deadline = "10s"` + "\nmode = \"fast\"", "program one: mode"},
		`"a=b"`:                         {`"a b"`, "program one: args"},
		`kind = "nvme"`:                 {`kind = "floppy"`, "program one: devices: kind"},
		`quick = ["one"]`:               {`quick = ["six"]`, `quick names "six"`},
		"[[program]]\nname = \"one\"":   {"[[program]]\nname = \"quick\"", "the name is taken"},
		`deadline = "10s"` + "\n":       {"deadline = \"10s\"\nscript = \"no.sh\"\n", "script: there is no no.sh"},
		`programs = ["one", "two*"]`:    {`programs = ["one", "t*o"]`, "* only as their last"},
		`check = "c"`:                   {"program = \"x\"\ncheck = \"c\"", "want one of them"},
		`kernel = "better"`:             {``, "mutants.kernel is missing"},
		"[[mutants]]":                   {"[[mutants]]\nkernel = \"better\"\n[[mutants]]", "mutants.kernel better is declared twice"},
		`{ v1 = "one.patch" }`:          {`{ v1 = "wrong" }`, "mutants.folder v1: there is no wrong"},
		`cpus = [1]`:                    {`cpus = []`, "bench.group g: cpus"},
		`command = "measure"`:           {``, "bench.command is missing"},
		`kind = "scale"`:                {`kind = "pie"`, "figure 1: kind"},
		`pin = "v1"`:                    {`pin = "v1`, "subject.toml:4:"},
	} {
		text := strings.Replace(goodSubject, old, test.new, 1)
		if text == goodSubject {
			t.Fatalf("%q is not in the subject", old)
		}
		write(t, dir, subjectFile, text)
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), subjectFile) {
			t.Errorf("with %q: %v; want an error with %q and the file", test.new, err, test.want)
		}
	}
	write(t, dir, subjectFile, strings.Replace(goodSubject, "default = true", "", 1))
	if _, err := All(filepath.Dir(dir)); err == nil || !strings.Contains(err.Error(), "default = true") {
		t.Errorf("Subjects without a default = %v; want an error that says so", err)
	}
}
