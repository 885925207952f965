package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// step is a step of a workflow or an action.
type step struct {
	Name  string            `yaml:"name"`
	Uses  string            `yaml:"uses"`
	If    string            `yaml:"if"`
	Run   string            `yaml:"run"`
	Shell string            `yaml:"shell"`
	Env   map[string]string `yaml:"env"`
	With  map[string]string `yaml:"with"`
}

// workflow is what the tests need to know of one; an action has its steps below runs.
type workflow struct {
	On          any               `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Jobs        map[string]job    `yaml:"jobs"`
	Runs        struct {
		Steps []step `yaml:"steps"`
	} `yaml:"runs"`
}

type job struct {
	Uses        string            `yaml:"uses"`
	Permissions map[string]string `yaml:"permissions"`
	Timeout     int               `yaml:"timeout-minutes"`
	Strategy    struct {
		Matrix map[string][]string `yaml:"matrix"`
	} `yaml:"strategy"`
	// Container is a name, or has one.
	Container any `yaml:"container"`
	Services  map[string]struct {
		Image string `yaml:"image"`
	} `yaml:"services"`
	Steps []step `yaml:"steps"`
}

// images are those of containers that the job runs in or beside.
func (j job) images() (all []string) {
	switch c := j.Container.(type) {
	case string:
		all = append(all, c)
	case map[string]any:
		all = append(all, fmt.Sprint(c["image"]))
	}
	for _, s := range j.Services {
		all = append(all, s.Image)
	}
	return all
}

func (w workflow) steps() []step {
	all := w.Runs.Steps
	for _, job := range w.Jobs {
		all = append(all, job.Steps...)
	}
	return all
}

func readWorkflow(t *testing.T, path string) (w workflow, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &w); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return w, string(data)
}

var (
	pinnedAction = regexp.MustCompile(`^[A-Za-z0-9._/-]+@[0-9a-f]{40}$`)
	pinnedImage  = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	// strangers are what anyone may have written, and what names it within an expression.
	strangers  = regexp.MustCompile(`github\.(event|head_ref|ref|actor|triggering_actor)|inputs\.|matrix\.|steps\.|env\.`)
	expression = regexp.MustCompile(`\$\{\{([^}]*)\}\}`)
	// runnerFiles are what a line changes later steps by.
	runnerFiles = regexp.MustCompile(`GITHUB_(ENV|PATH)`)
)

// dangers are what a workflow, or an action, has that a stranger's pull request could use: what zizmor
// looks for, which is no Go tool, as far as these files can have it.
func dangers(t *testing.T, text string) (all []string) {
	t.Helper()
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		return []string{"cannot be read: " + err.Error()}
	}
	for word, why := range map[string]string{
		"pull_request_target": "runs a stranger's code with the rights of the repository", "workflow_run": "runs after a stranger's code, with more rights",
		"issue_comment": "is begun by anyone's comment",
		"secrets.":      "has a secret", "secrets:": "hands on secrets", "github.token": "has the token", "GITHUB_TOKEN": "has the token",
		"SANDBOX": "has a word on the sandbox", "ACTIONS_ALLOW_UNSECURE_COMMANDS": "lets a line of output set variables",
		"self-hosted": "runs on a machine that is not thrown away", "[bot]": "trusts who is said to have begun it",
	} {
		if strings.Contains(text, word) {
			add("%s: %s", word, why)
		}
	}
	isAction := len(w.Runs.Steps) > 0
	if !isAction && len(w.Permissions) == 0 {
		add("it does not say what its token may do")
	}
	rights := []map[string]string{w.Permissions}
	writes, caches := false, false
	for name, job := range w.Jobs {
		rights = append(rights, job.Permissions)
		if job.Uses != "" && !pinnedAction.MatchString(job.Uses) && !strings.HasPrefix(job.Uses, "./") {
			add("%s is not pinned by its commit", job.Uses)
		}
		if !isAction && job.Uses == "" && job.Timeout == 0 {
			add("job %s may take for ever", name)
		}
		for _, image := range job.images() {
			if !pinnedImage.MatchString(image) {
				add("the image %s is not pinned by its digest", image)
			}
		}
	}
	for _, some := range rights {
		for what, right := range some {
			if right != "read" && right != "none" {
				writes = true
				add("the token may %s %s", right, what)
			}
		}
	}
	if len(w.steps()) == 0 && len(w.Jobs) == 0 {
		add("it has no steps")
	}
	for _, s := range w.steps() {
		uses, _, _ := strings.Cut(s.Uses, "@")
		caches = caches || uses == "actions/cache" || strings.HasPrefix(uses, "actions/setup-") && s.With["cache"] != "false"
		switch {
		case strings.HasPrefix(s.Uses, "./"):
		case s.Uses != "" && !pinnedAction.MatchString(s.Uses):
			add("%s is not pinned by its commit", s.Uses)
		}
		if uses == "actions/checkout" && s.With["persist-credentials"] != "false" {
			add("a checkout leaves the token in the workspace")
		}
		for _, script := range []string{s.Run, s.With["script"]} {
			if expression.MatchString(script) {
				add("an expression within a script: %s", script)
			}
			if runnerFiles.MatchString(script) {
				add("a script sets what later steps run by: %s", script)
			}
		}
		if s.Shell != "" && expression.MatchString(s.Shell) {
			add("an expression within a shell's name: %s", s.Shell)
		}
		for _, e := range expression.FindAllStringSubmatch(s.Uses+s.With["ref"]+s.With["repository"], -1) {
			if strangers.MatchString(e[1]) {
				add("a stranger says what is taken: %s", e[0])
			}
		}
	}
	if caches && (writes || strings.Contains(text, "release:") || strings.Contains(text, "tags:")) {
		add("what is published is made with a cache that others fill")
	}
	slices.Sort(all)
	return all
}

// What a pull request brings is anyone's: a workflow gives it no secret and no right to write, takes
// only actions that cannot change, and puts no text of anyone's into a script.
func TestWorkflowsAreSafe(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(checkout, ".github", "workflows", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the workflows are %v, %v", files, err)
	}
	for _, file := range append(files, filepath.Join(checkout, "action.yml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, danger := range dangers(t, string(text)) {
			t.Errorf("%s: %s", file, danger)
		}
	}
}

// Each danger is seen where it is, and a workflow without one is let pass.
func TestDangers(t *testing.T) {
	const commit = "@08c6903cd8c0fde910a37f88322edcfb5dd907a8"
	const well = "on: pull_request\npermissions:\n  contents: read\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n    steps:\n"
	step := func(text string) string {
		return well + "      - " + strings.ReplaceAll(text, "\n", "\n        ") + "\n"
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", step("run: make"), ""},
		{"a pinned action", step("uses: actions/setup-go" + commit), ""},
		{"an action of its own", step("uses: ./action"), ""},
		{"a cache of who reads only", step("uses: actions/cache" + commit), ""},
		{"an expression in the environment", step("run: make $A\nenv:\n  A: ${{ github.head_ref }}"), ""},
		{"an unpinned action", step("uses: actions/cache@v4"), "actions/cache@v4 is not pinned"},
		{"an action pinned by a branch", step("uses: actions/cache@main"), "is not pinned"},
		{"an action by a short commit", step("uses: actions/cache@08c6903"), "is not pinned"},
		{"an unpinned workflow", strings.Replace(well, "    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n    steps:\n", "    uses: a/b/.github/workflows/c.yml@v1\n", 1), "c.yml@v1 is not pinned"},
		{"an unpinned image", step("run: make") + "    container: debian:13\n", "the image debian:13"},
		{"an unpinned image by name", step("run: make") + "    container:\n      image: debian:13\n", "the image debian:13"},
		{"an unpinned service", step("run: make") + "    services:\n      b:\n        image: redis\n", "the image redis"},
		{"a step in an image", step("uses: docker://debian:13"), "is not pinned"},
		{"a token in the workspace", step("uses: actions/checkout" + commit), "leaves the token"},
		{"no token in the workspace", step("uses: actions/checkout" + commit + "\nwith:\n  persist-credentials: false"), ""},
		{"another's checkout", step("uses: actions/checkout" + commit + "\nwith:\n  persist-credentials: false\n  ref: ${{ github.event.pull_request.head.sha }}"), "a stranger says what is taken"},
		{"an expression in a script", step("run: echo ${{ github.event.pull_request.title }}"), "an expression within a script"},
		{"an expression in JavaScript", step("uses: actions/github-script" + commit + "\nwith:\n  script: console.log(\"${{ github.head_ref }}\")"), "an expression within a script"},
		{"a script that changes the path", step("run: echo $HOME/bin >>$GITHUB_PATH"), "what later steps run by"},
		{"a script that sets variables", step("run: cat title >>\"$GITHUB_ENV\""), "what later steps run by"},
		{"no word on the token", strings.Replace(step("run: make"), "permissions:\n  contents: read\n", "", 1), "does not say what its token may do"},
		{"a token that writes", strings.Replace(step("run: make"), "contents: read", "contents: write", 1), "may write contents"},
		{"a token that may all", strings.Replace(step("run: make"), "permissions:\n  contents: read", "permissions: write-all", 1), "cannot be read"},
		{"a job whose token writes", step("run: make") + "    permissions:\n      packages: write\n", "may write packages"},
		{"the repository's rights", strings.Replace(step("run: make"), "pull_request", "pull_request_target", 1), "pull_request_target"},
		{"after another", strings.Replace(step("run: make"), "pull_request", "workflow_run", 1), "workflow_run"},
		{"a comment", strings.Replace(step("run: make"), "pull_request", "issue_comment", 1), "anyone's comment"},
		{"a secret", step("run: make\nenv:\n  A: ${{ secrets.A }}"), "has a secret"},
		{"all secrets", step("run: make") + "    secrets: inherit\n", "hands on secrets"},
		{"the token", step("run: make\nenv:\n  A: ${{ github.token }}"), "has the token"},
		{"no sandbox", step("run: make\nenv:\n  SANDBOX: off"), "the sandbox"},
		{"a machine that stays", strings.Replace(step("run: make"), "ubuntu-24.04", "self-hosted", 1), "not thrown away"},
		{"whom it trusts", step("run: make\nif: github.actor == 'renovate[bot]'"), "who is said to have begun it"},
		{"for ever", strings.Replace(step("run: make"), "    timeout-minutes: 5\n", "", 1), "job a may take for ever"},
		{"a cache of who publishes", strings.Replace(step("uses: actions/cache"+commit), "on: pull_request", "on:\n  push:\n    tags: ['v*']", 1), "a cache that others fill"},
		{"no steps", "on: push\npermissions:\n  contents: read\n", "no steps"},
		{"no workflow", "a: [", "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(dangers(t, tt.text), "\n")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("dangers = %q; want %q", got, tt.want)
			}
		})
	}
}

// The steps of the workflow, as the file has them, with the machines' folders handed on as artifacts:
// two kernels and one program in three parts.
func TestWorkflowRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots kernels")
	}
	w, _ := readWorkflow(t, filepath.Join(checkout, ".github", "workflows", "vmtest.yml"))
	artifacts := t.TempDir()
	summary := filepath.Join(t.TempDir(), "summary")
	root, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	// expand fills in what the steps know of the shard.
	shard, index := "", ""
	expand := strings.NewReplacer("${{ matrix.shard }}", "SHARD", "${{ strategy.job-index }}", "INDEX")
	filled := func(text string) string {
		return strings.NewReplacer("SHARD", shard, "INDEX", index).Replace(expand.Replace(text))
	}
	ran := 0
	play := func(steps []step) {
		for _, s := range steps {
			path := filepath.Join(root, s.With["path"])
			switch {
			case strings.Contains(s.Run, "sudo"):
				// The machine of this test has what it needs.
			case s.Run != "":
				cmd := exec.Command("bash", "-e", "-c", s.Run)
				cmd.Dir = root
				cmd.Env = append(os.Environ(), "KERNELS=base posted", "GITHUB_STEP_SUMMARY="+summary)
				if s.Run == "make vmtest" {
					cmd.Env = append(cmd.Env, "PROGRAMS=nop")
				}
				for name, value := range s.Env {
					cmd.Env = append(cmd.Env, name+"="+filled(value))
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", s.Run, err, out)
				}
				ran++
			case strings.HasPrefix(s.Uses, "actions/upload-artifact@"):
				handOn(t, path, filepath.Join(artifacts, filled(s.With["name"])))
			case strings.HasPrefix(s.Uses, "actions/download-artifact@"):
				os.RemoveAll(path)
				t.Cleanup(func() { os.RemoveAll(path) })
				if name := s.With["name"]; name != "" {
					handOn(t, filepath.Join(artifacts, name), path)
					continue
				}
				found, _ := filepath.Glob(filepath.Join(artifacts, s.With["pattern"]))
				for _, dir := range found {
					handOn(t, dir, filepath.Join(path, filepath.Base(dir)))
				}
			}
		}
	}
	play(w.Jobs["prepare"].Steps)
	for i, part := range w.Jobs["shard"].Strategy.Matrix["shard"] {
		shard, index = part, fmt.Sprint(i)
		play(w.Jobs["shard"].Steps)
	}
	play(w.Jobs["merge"].Steps)
	text, err := os.ReadFile(summary)
	if err != nil || !strings.Contains(string(text), "## patchproof: as expected") {
		t.Errorf("the job's summary is %q, %v; want that all is as expected", text, err)
	}
	if want := 2 + 2*3 + 2; ran != want {
		t.Errorf("%d steps ran; want %d", ran, want)
	}
	names, _ := filepath.Glob(filepath.Join(artifacts, "*"))
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if want := []string{"kernels", "results", "shard-0", "shard-1", "shard-2"}; !slices.Equal(names, want) {
		t.Errorf("the artifacts are %v; want %v", names, want)
	}
}

// handOn copies what an artifact holds.
func handOn(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
