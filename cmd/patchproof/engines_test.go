package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// component is what they need to know of a job of templates/patchproof.yml.
type component struct {
	Parallel     int               `yaml:"parallel"`
	Variables    map[string]string `yaml:"variables"`
	BeforeScript []string          `yaml:"before_script"`
	Script       []string          `yaml:"script"`
	Artifacts    struct {
		Reports struct {
			JUnit string `yaml:"junit"`
		} `yaml:"reports"`
	} `yaml:"artifacts"`
}

var componentInput = regexp.MustCompile(`\$\[\[ inputs\.(\w+) \]\]`)

// readComponent fills in the inputs as GitLab does: those given, and else their defaults.
func readComponent(t *testing.T, given map[string]string) map[string]component {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, "templates", "patchproof.yml"))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(text), "\n---\n")
	var spec struct {
		Spec struct {
			Inputs map[string]struct {
				Description string `yaml:"description"`
				Default     any    `yaml:"default"`
			} `yaml:"inputs"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(head), &spec); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	body = componentInput.ReplaceAllStringFunc(body, func(text string) string {
		name := componentInput.FindStringSubmatch(text)[1]
		used[name] = true
		input, ok := spec.Spec.Inputs[name]
		value, isGiven := given[name]
		switch {
		case !ok:
			t.Errorf("the component uses %s, which it does not declare", name)
		case !isGiven && input.Default == nil:
			t.Errorf("nobody gives %s", name)
		case !isGiven:
			value = fmt.Sprint(input.Default)
		}
		return value
	})
	for name, input := range spec.Spec.Inputs {
		if !used[name] || input.Description == "" {
			t.Errorf("the input %s is not used, or has no description", name)
		}
	}
	jobs := map[string]component{}
	if err := yaml.Unmarshal([]byte(body), &jobs); err != nil {
		t.Fatal(err)
	}
	return jobs
}

// What a pipeline is asked for may be anyone's text: it is in variables, and in no script.
func TestComponentIsSafe(t *testing.T) {
	const evil = "a; touch /tmp/evil"
	for name, job := range readComponent(t, map[string]string{"image": "i", "patch": evil, "tree": evil, "test": evil}) {
		if lines := strings.Join(append(job.BeforeScript, job.Script...), "\n"); strings.Contains(lines, "evil") {
			t.Errorf("job %s has what was asked for in its script:\n%s", name, lines)
		}
	}
}

// containerfile gives the instructions of one, each with its line's rest.
func containerfile(text string) (all [][2]string) {
	text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all = append(all, [2]string{strings.ToUpper(word), strings.TrimSpace(rest)})
		}
	}
	return all
}

// faultsOf are what hadolint, and who runs images, would object to.
func faultsOf(text string) (all []string) {
	user, workdir, commands := "root", "", 0
	for _, line := range containerfile(text) {
		word, rest := line[0], line[1]
		switch word {
		case "FROM":
			image := strings.Fields(rest)[0]
			name := image[strings.LastIndex(image, "/")+1:]
			if !strings.ContainsAny(name, ":@") || strings.HasSuffix(name, ":latest") {
				all = append(all, image+" is another image tomorrow")
			}
			if !strings.Contains(image, "/") {
				all = append(all, image+" does not say which registry it is from")
			}
		case "USER":
			user = rest
		case "WORKDIR":
			if workdir = rest; !strings.HasPrefix(rest, "/") {
				all = append(all, "the folder "+rest+" depends on the one before")
			}
		case "ADD":
			all = append(all, "ADD fetches and unpacks; COPY does not")
		case "COPY":
			if workdir == "" {
				all = append(all, "COPY goes into a folder that nothing names")
			}
		case "ARG", "ENV":
			if regexp.MustCompile(`(?i)token|secret|password`).MatchString(rest) {
				all = append(all, "a secret stays in the image: "+rest)
			}
		case "CMD", "ENTRYPOINT":
			if commands++; !strings.HasPrefix(rest, "[") {
				all = append(all, word+" goes through a shell, which takes the signals")
			}
		case "RUN":
			if strings.Contains(rest, "sudo") || regexp.MustCompile(`(curl|wget)[^|]*\|`).MatchString(rest) {
				all = append(all, "what it runs nobody has seen: "+rest)
			}
			if strings.Contains(rest, "apt-get install") && !strings.Contains(rest, "/var/lib/apt/lists") {
				all = append(all, "the lists of apt stay in the image: "+rest)
			}
		case "EXPOSE", "LABEL", "STOPSIGNAL":
		default:
			all = append(all, "unknown instruction "+word)
		}
	}
	if user == "root" || user == "0" {
		all = append(all, "it runs as root")
	}
	if commands != 1 {
		all = append(all, fmt.Sprintf("it has %d commands", commands))
	}
	return all
}

func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(checkout, "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if faults := faultsOf(string(text)); len(faults) > 0 {
		t.Errorf("the Containerfile: %s", strings.Join(faults, "; "))
	}
	if len(containerfile(string(text))) < 5 {
		t.Errorf("the Containerfile has only %v", containerfile(string(text)))
	}
	const well = "FROM docker.io/library/debian:13\nWORKDIR /a\nCOPY . .\nRUN make \\\n  all\nUSER a\nCMD [\"make\"]\n"
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{":13", "", "another image tomorrow"},
		{":13", ":latest", "another image tomorrow"},
		{"docker.io/library/", "", "which registry"},
		{"WORKDIR /a", "WORKDIR a", "depends on the one before"},
		{"WORKDIR /a\n", "", "that nothing names"},
		{"COPY . .", "ADD . .", "ADD fetches"},
		{"RUN make", "RUN curl a | sh", "nobody has seen"},
		{"RUN make", "RUN apt-get install -y make", "the lists of apt"},
		{"RUN make", "ENV TOKEN=1", "a secret stays"},
		{"RUN make", "RUN_ make", "unknown instruction"},
		{"USER a\n", "", "as root"},
		{"USER a\n", "USER root\n", "as root"},
		{"CMD [\"make\"]", "CMD make", "through a shell"},
		{"CMD [\"make\"]\n", "", "0 commands"},
	} {
		got := strings.Join(faultsOf(strings.Replace(well, tt.old, tt.new, 1)), "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("with %q: %q; want %q", tt.new, got, tt.want)
		}
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

	t.Run("GitLab component", func(t *testing.T) {
		project := t.TempDir()
		jobs := readComponent(t, map[string]string{"image": "i", "shards": "1"})
		script := func(name string) string {
			return strings.Join(append(slices.Clone(jobs[".patchproof"].BeforeScript), jobs["patchproof-"+name].Script...), "\n")
		}
		env := []string{program, "CI_PROJECT_DIR=" + project, "PATCHPROOF=" + root}
		for name := range jobs[".patchproof"].Variables {
			if strings.HasPrefix(name, "IN_") {
				env = append(env, name+"=")
			}
		}
		run(t, script("prepare"), append(slices.Clone(env), "COUNT=1", "SEED=1", "STRICT=1")...)
		for i := 1; i <= jobs["patchproof-shard"].Parallel; i++ {
			run(t, script("shard"), append(slices.Clone(env), fmt.Sprint("CI_NODE_INDEX=", i), "CI_NODE_TOTAL=1")...)
		}
		out := run(t, script("merge"), env...)
		junit, err := os.ReadFile(filepath.Join(project, jobs["patchproof-merge"].Artifacts.Reports.JUnit))
		if err != nil || strings.Count(string(junit), "<testcase") < 2 || !strings.Contains(out, "nothing unexpected") {
			t.Errorf("junit.xml is %q, %v; want the cells of two kernels\n%s", junit, err, out)
		}
		// A part that is missing is no pass.
		if err := os.RemoveAll(filepath.Join(project, "patchproof", "shards", "1")); err != nil {
			t.Fatal(err)
		}
		if err := command(script("merge"), env...).Run(); err == nil {
			t.Error("merge passes without a shard")
		}
	})

	t.Run("Kubernetes", func(t *testing.T) {
		shared := t.TempDir()
		run(t, readPodJob(t, "prepare").script(shared), program, "COUNT=1", "SEED=1", "STRICT=1")
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
