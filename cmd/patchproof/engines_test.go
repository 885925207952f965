package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// pipeline is what the tests need to know of .gitlab-ci.yml.
type pipeline struct {
	Prepare, Shard, Merge struct {
		Parallel    int      `yaml:"parallel"`
		Script      []string `yaml:"script"`
		AfterScript []string `yaml:"after_script"`
	}
}

// podJob is what they need to know of a Job of Kubernetes.
type podJob struct {
	Spec struct {
		Completions, Parallelism int
		Template                 struct {
			Spec struct {
				AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
				SecurityContext              struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
				} `yaml:"securityContext"`
				Containers []struct {
					Command, Args []string
					Env           []struct{ Name, Value string }
				}
			}
		}
	}
}

// script is what the job's pods run, with another folder in place of the shared one.
func (j podJob) script(shared string) string {
	return strings.ReplaceAll(j.Spec.Template.Spec.Containers[0].Args[0], "/shared/", shared+"/")
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, path))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "SANDBOX") || strings.Contains(string(text), "privileged") {
		t.Errorf("%s asks for more than a stranger's patch should have", path)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readPodJob(t *testing.T, name string) (j podJob) {
	t.Helper()
	path := "deploy/k8s/base/" + name + ".yaml"
	readYAML(t, path, &j)
	pod := j.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.Containers[0].Args) != 1 || strings.Join(pod.Containers[0].Command, " ") != "bash -ec" {
		t.Fatalf("%s: the containers are %+v; want one with one script for bash -ec", path, pod.Containers)
	}
	if token := pod.AutomountServiceAccountToken; !pod.SecurityContext.RunAsNonRoot || token == nil || *token {
		t.Errorf("%s: a pod runs as root or has a token of the cluster", path)
	}
	return j
}

// The number of shards is in two places of the Job.
func TestPodsAreAsManyAsShards(t *testing.T) {
	for _, name := range []string{"prepare", "merge"} {
		readPodJob(t, name)
	}
	j := readPodJob(t, "shards")
	env := j.Spec.Template.Spec.Containers[0].Env[0]
	if n := fmt.Sprint(j.Spec.Completions); env.Name != "SHARDS" || env.Value != n || j.Spec.Parallelism != j.Spec.Completions {
		t.Errorf("%s=%s for %s pods, %d of them at once; want as many shards as pods, at once", env.Name, env.Value, n, j.Spec.Parallelism)
	}
}

// The scripts of .gitlab-ci.yml and of the Jobs for Kubernetes, as the files have them, one after
// another on this machine: two kernels and one program in parts. A pod is killed and started again.
func TestEnginesRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots kernels")
	}
	root, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	command := func(script string, env ...string) *exec.Cmd {
		cmd := exec.Command("bash", "-ec", script)
		cmd.Dir = root
		cmd.Env = append(append(os.Environ(), "KERNELS=base posted"), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd
	}
	run := func(t *testing.T, script string, env ...string) string {
		t.Helper()
		out, err := command(script, env...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	const program = "PROGRAMS=nop"
	// Whatever an engine runs, the command is there.
	run(t, "make command")

	t.Run("GitLab", func(t *testing.T) {
		var p pipeline
		readYAML(t, ".gitlab-ci.yml", &p)
		for _, folder := range []string{"kernels", "shards", "results/merged"} {
			os.RemoveAll(filepath.Join(root, folder))
			t.Cleanup(func() { os.RemoveAll(filepath.Join(root, folder)) })
		}
		run(t, strings.ReplaceAll(strings.Join(p.Prepare.Script, "\n"), "--to=kernels", "--to="+root+"/kernels"))
		for i := 1; i <= p.Shard.Parallel; i++ {
			env := []string{program, fmt.Sprint("CI_NODE_INDEX=", i), fmt.Sprint("CI_NODE_TOTAL=", p.Shard.Parallel)}
			run(t, strings.Join(p.Shard.Script, "\n"), env...)
			run(t, strings.Join(p.Shard.AfterScript, "\n"), env...)
		}
		run(t, strings.Join(p.Merge.Script, "\n"))
		run(t, strings.Join(p.Merge.AfterScript, "\n"))
		junit, err := os.ReadFile(filepath.Join(root, "results", "merged", "junit.xml"))
		if err != nil || strings.Count(string(junit), "<testcase") < 2 {
			t.Errorf("junit.xml is %q, %v; want the cells of two kernels", junit, err)
		}
	})

	t.Run("Kubernetes", func(t *testing.T) {
		shared := t.TempDir()
		run(t, readPodJob(t, "prepare").script(shared))
		j := readPodJob(t, "shards")
		latest := filepath.Join(root, "results", "out", "latest")
		// What a pod has in results/out is kept in the shared volume.
		keep := func(index int) {
			t.Helper()
			dir, err := filepath.EvalSymlinks(latest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(shared, "shards", fmt.Sprint(index), filepath.Base(dir)), os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range j.Spec.Completions {
			env := []string{program, fmt.Sprint("INDEX=", i), fmt.Sprint("SHARDS=", j.Spec.Completions)}
			if i == 0 {
				was, _ := os.Readlink(latest)
				pod := command(j.script(shared), env...)
				var out bytes.Buffer
				pod.Stdout, pod.Stderr = &out, &out
				if err := pod.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- pod.Wait() }()
				for now := was; now == was; now, _ = os.Readlink(latest) {
					select {
					case err := <-ended:
						t.Fatalf("the pod ended before it was killed: %v\n%s", err, out.String())
					case <-time.After(10 * time.Millisecond):
					}
				}
				syscall.Kill(-pod.Process.Pid, syscall.SIGKILL)
				<-ended
				keep(i)
			}
			run(t, j.script(shared), env...)
			keep(i)
		}
		out := run(t, readPodJob(t, "merge").script(shared))
		if !strings.Contains(out, "did not finish and is left aside") || !strings.Contains(out, "nothing unexpected") {
			t.Errorf("the merge says\n%s\nwant that the killed pod's part is left aside, and nothing unexpected", out)
		}
	})
}
