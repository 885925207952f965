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
	Name string            `yaml:"name"`
	Uses string            `yaml:"uses"`
	If   string            `yaml:"if"`
	Run  string            `yaml:"run"`
	Env  map[string]string `yaml:"env"`
	With map[string]string `yaml:"with"`
}

// workflow is what the tests need to know of one; an action has its steps below runs.
type workflow struct {
	On          any               `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Jobs        map[string]struct {
		Permissions map[string]string `yaml:"permissions"`
		Strategy    struct {
			Matrix map[string][]string `yaml:"matrix"`
		} `yaml:"strategy"`
		Steps []step `yaml:"steps"`
	} `yaml:"jobs"`
	Runs struct {
		Steps []step `yaml:"steps"`
	} `yaml:"runs"`
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
	expression   = regexp.MustCompile(`\$\{\{`)
)

// What a pull request brings is anyone's: a workflow gives it no secret and no right to write, takes
// only actions that cannot change, puts no text of anyone's into a script, and takes no command
// from what a guest prints.
func TestWorkflowsAreSafe(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(checkout, ".github", "workflows", "*.yml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the workflows are %v, %v", files, err)
	}
	for _, file := range append(files, filepath.Join(checkout, "action.yml")) {
		w, text := readWorkflow(t, file)
		for _, word := range []string{"pull_request_target", "workflow_run", "secrets.", "github.token", "SANDBOX"} {
			if strings.Contains(text, word) {
				t.Errorf("%s has %s", file, word)
			}
		}
		rights := []map[string]string{w.Permissions}
		for _, job := range w.Jobs {
			rights = append(rights, job.Permissions)
		}
		for _, some := range rights {
			for what, right := range some {
				if right != "read" && right != "none" {
					t.Errorf("%s: the token may %s %s", file, right, what)
				}
			}
		}
		if len(w.Jobs) > 0 && len(w.Permissions) == 0 {
			t.Errorf("%s does not say what its token may do", file)
		}
		if len(w.steps()) == 0 {
			t.Errorf("%s has no steps", file)
		}
		ofAnyone := len(w.Jobs) == 0 || strings.Contains(text, "pull_request")
		for _, s := range w.steps() {
			tells := strings.Contains(s.Run, "make vmtest") || strings.Contains(s.Run, "results merge")
			switch {
			case ofAnyone && tells && !strings.Contains(s.Run, "::stop-commands::"):
				t.Errorf("%s: a guest's output is commands to the runner: %s", file, s.Run)
			case s.Uses != "" && !pinnedAction.MatchString(s.Uses):
				t.Errorf("%s: %s is not pinned by its commit", file, s.Uses)
			case strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != "false":
				t.Errorf("%s: a checkout leaves the token in the workspace", file)
			case expression.MatchString(s.Run):
				t.Errorf("%s: an expression within a script: %s", file, s.Run)
			}
		}
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
