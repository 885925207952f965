package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
)

// needSandbox skips a test where there is none, as in some containers.
func needSandbox(t *testing.T) {
	t.Helper()
	if on, _, err := sandbox.Find(t.Context(), false); !on {
		t.Skip("no sandbox here: ", err)
	}
}

// hostilePatch is a patch whose makefile runs a shell command.
func hostilePatch(t *testing.T, repo, command string) patches.Series {
	t.Helper()
	makefile := filepath.Join(repo, "Makefile")
	text, err := os.ReadFile(makefile)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(repo, "scripts", "hostile.sh")
	writeFile(t, script, command+"\n")
	writeFile(t, makefile, string(text)+"\n$(shell sh $(CURDIR)/scripts/hostile.sh >/dev/null </dev/null)\n")
	userGit(t, repo, "add", "-A")
	userGit(t, repo, "commit", "-qm", "hostile")
	file := filepath.Join(t.TempDir(), "hostile.patch")
	writeFile(t, file, userGit(t, repo, "format-patch", "-1", "--stdout")+"\n")
	userGit(t, repo, "reset", "-q", "--hard", "HEAD^")
	series, err := patches.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return series
}

// TestHostilePatches builds patches whose makefiles try what they must not. What one
// gets hold of it says on stderr, which is in the build's log.
func TestHostilePatches(t *testing.T) {
	needSandbox(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("https_proxy", "http://user:CANARY@localhost:1/")
	writeFile(t, filepath.Join(home, ".ssh", "id_rsa"), "CANARY\n")
	victim := filepath.Join(t.TempDir(), "victim")
	writeFile(t, victim, "innocent\n")
	neighbour := exec.Command("sleep", "1000")
	neighbour.Env = []string{"PF_SECRET=CANARY"}
	if err := neighbour.Start(); err != nil {
		t.Fatal(err)
	}
	defer neighbour.Process.Kill()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket := filepath.Join(t.TempDir(), "agent")
	agent, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	connected := make(chan string, 16)
	for _, l := range []net.Listener{listener, agent} {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				connected <- l.Addr().String()
				conn.Close()
			}
		}()
	}
	cache := t.TempDir()
	repo := fixtureRepo(t)
	b := &Builder{Cache: cache}
	base := mustBuild(t, b, localSpec(repo, "base"))
	python := func(address string) string {
		return fmt.Sprintf(`python3 -c "import socket; s=socket.socket(socket.%s); s.connect(%s)"`, strings.Fields(address)[0], strings.SplitN(address, " ", 2)[1])
	}
	for name, command := range map[string]string{
		"writes to the home folder":     "mkdir -p " + home + "; echo PWNED >" + home + "/.bashrc",
		"writes to another's file":      "echo PWNED >" + victim,
		"writes to /tmp":                "echo PWNED >" + filepath.Dir(victim) + "/planted",
		"writes to the store":           "echo PWNED >" + base.Vmlinux + "; echo PWNED >" + cache + "/requests/planted",
		"writes to the source":          "echo PWNED >>main.c; echo PWNED >.git/hooks/post-checkout; mkdir -p .git/hooks",
		"reads the environment":         "env | grep CANARY >&2",
		"reads the home folder":         "cat " + home + "/.ssh/id_rsa >&2",
		"reads other processes":         "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep CANARY >&2",
		"reads the password file":       "sed -n 's/^root:/CANARY/p' /etc/shadow >&2",
		"reaches the network":           python(fmt.Sprintf("AF_INET ('127.0.0.1',%d)", listener.Addr().(*net.TCPAddr).Port)),
		"reaches an agent's socket":     python(fmt.Sprintf("AF_UNIX '%s'", socket)),
		"mounts over the system":        "unshare -rm sh -c 'mount --bind /dev/null " + victim + "; echo PWNED >" + victim + "'",
		"kills processes of the host":   fmt.Sprintf("kill -9 %d", os.Getpid()),
		"links out of the build folder": "ln -s " + victim + " $$PF_OUT/System.map.tmp; echo PWNED >$$PF_OUT/System.map.tmp",
		"links what is noted elsewhere": "ln -sf " + victim + " $$PF_OUT/.patchproof-config",
		"has a pipe for a config":       "rm -f $$PF_OUT/.config; mkfifo $$PF_OUT/.config; cat $$PF_OUT/.config &",
		"leaves a process behind":       "setsid sh -c 'sleep 2; echo PWNED >" + victim + "' &",
	} {
		t.Run(name, func(t *testing.T) {
			spec := localSpec(repo, "patched", hostilePatch(t, repo, "PF_OUT=$(echo "+tree{dir: b.treeDir(localSpec(repo, "base"))}.build(plain, Compiler{})+")\n"+strings.ReplaceAll(command, "$$", "$")))
			var notes []string
			b := &Builder{Cache: cache, Progress: func(p Progress) { notes = append(notes, p.Step) }}
			// Whether it builds is not what matters.
			_, _ = b.Build(t.Context(), spec, plain)
			log, err := os.ReadFile(buildLog(b, spec))
			if err != nil || !strings.Contains(string(log), "+ make") {
				t.Fatalf("log = %q, %v; want one of the build", log, err)
			}
			if strings.Contains(strings.ReplaceAll(string(log), command, ""), "CANARY") {
				t.Errorf("it read a secret:\n%s", log)
			}
			if !strings.Contains(strings.Join(notes, "\n"), "the patch changes what runs when the kernel is built") {
				t.Errorf("notes = %q; want one that names the makefile", notes)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "innocent\n" {
				t.Errorf("the victim's file = %q, %v", text, err)
			}
			if left := list(t, home); strings.Join(left, " ") != ".ssh .ssh/id_rsa" {
				t.Errorf("the home folder has %q", left)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(victim), "planted")); err == nil {
				t.Error("it wrote beside the victim's file")
			}
			select {
			case address := <-connected:
				t.Errorf("it reached %s", address)
			default:
			}
			again, ok := b.known(mustRequest(t, b, localSpec(repo, "base")), localSpec(repo, "base"), plain)
			if !ok || again.Key != base.Key {
				t.Error("the base in the store is not what it was")
			}
		})
	}
}

func mustRequest(t *testing.T, b *Builder, spec Spec) string {
	t.Helper()
	compiler, err := Compiler{}.id(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request, err := b.request(t.Context(), spec, plain, compiler)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func buildLog(b *Builder, spec Spec) string {
	return filepath.Join(b.Cache, logsDir, filepath.Base(b.treeDir(spec))+"-plain-"+spec.Name+".log")
}

// TestHostilePatchesBait shows that the same means find and change something where
// there is no sandbox.
func TestHostilePatchesBait(t *testing.T) {
	t.Setenv(sandbox.Variable, "off")
	t.Setenv("CI", "")
	t.Setenv("https_proxy", "http://user:CANARY@localhost:1/")
	home := t.TempDir()
	t.Setenv("HOME", home)
	victim := filepath.Join(home, "victim")
	writeFile(t, victim, "SECRET\n")
	repo := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	mustBuild(t, b, localSpec(repo, "base"))
	spec := localSpec(repo, "patched", hostilePatch(t, repo, "cat "+victim+" >&2; env | grep CANARY >&2; echo PWNED >"+victim))
	mustBuild(t, b, spec)
	if text, err := os.ReadFile(victim); err != nil || string(text) != "PWNED\n" {
		t.Errorf("the victim's file = %q, %v; want PWNED", text, err)
	}
	log, err := os.ReadFile(buildLog(b, spec))
	if err != nil || !strings.Contains(string(log), "SECRET") || !strings.Contains(string(log), "CANARY") {
		t.Errorf("log = %q, %v; want both secrets", log, err)
	}
}

// A hostile build must not leave anything that the next, innocent one would take for
// its own, even one whose sources are older.
func TestWhatAHostileBuildPlantsIsNotUsed(t *testing.T) {
	t.Parallel()
	repo := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	mustBuild(t, b, localSpec(repo, "base"))
	out := tree{dir: b.treeDir(localSpec(repo, "base"))}.build(plain, Compiler{})
	planted := hostilePatch(t, repo, "echo PLANTED >"+out+"/main.o")
	if _, err := b.Build(t.Context(), localSpec(repo, "patched", planted), plain); err != nil {
		t.Log(err)
	}
	innocent := mustBuild(t, b, localSpec(repo, "patched", readPatch(t, goodPatch)))
	if text, err := os.ReadFile(innocent.Vmlinux); err != nil || strings.Contains(string(text), "PLANTED") {
		t.Errorf("the next kernel holds what the hostile one planted (%v)", err)
	}
}

func TestForksWithoutEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts thousands of processes")
	}
	needSandbox(t)
	repo := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	mustBuild(t, b, localSpec(repo, "base"))
	bomb := hostilePatch(t, repo, fmt.Sprintf("for i in $(seq %d); do sleep 1000 & done; wait", sandbox.MaxProcesses+500))
	_, err := b.Build(t.Context(), localSpec(repo, "patched", bomb), plain)
	var refused *BuildError
	if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "processes") {
		t.Errorf("error = %v; want the harness's own, about processes", err)
	}
	mustBuild(t, b, localSpec(repo, "patched", readPatch(t, goodPatch)))
}

func TestEndlessBuildEndsWithTheRun(t *testing.T) {
	t.Parallel()
	needSandbox(t)
	repo := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	mustBuild(t, b, localSpec(repo, "base"))
	ctx, cancel := context.WithCancel(t.Context())
	b.Progress = func(p Progress) {
		if p.Step == StepConfigure {
			cancel()
		}
	}
	_, err := b.Build(ctx, localSpec(repo, "patched", hostilePatch(t, repo, "trap '' TERM; while :; do sleep 1; done")), plain)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v; want the cancellation", err)
	}
	b.Progress = nil
	mustBuild(t, b, localSpec(repo, "patched", readPatch(t, goodPatch)))
}

func TestMachinery(t *testing.T) {
	for name, want := range map[string]bool{
		"fs/io_uring.c": false, "include/linux/io_uring.h": false, "arch/x86/entry/entry_64.S": false, "Documentation/conf.py": false,
		"MAINTAINERS": true, "Makefile": true, "fs/Makefile": true, "fs/Kconfig": true, "Kbuild": true, "scripts/basic/fixdep.c": true,
		"tools/objtool/check.c": true, "certs/extract-cert.c": true, "usr/gen_init_cpio.c": true, "arch/x86/tools/relocs.c": true,
		"lib/gen_crc32table.c": true, "lib/raid6/mktables.c": true, "arch/x86/entry/vdso/vdso2c.c": true, "kernel/gen_kheaders.sh": true,
	} {
		if got := machinery(name); got != want {
			t.Errorf("machinery(%q) = %v; want %v", name, got, want)
		}
	}
}

// What is written beside the tests of a hostile tree, outside of the sandbox, stays in their folder.
func TestHostileSelftests(t *testing.T) {
	needSandbox(t)
	for name, command := range map[string]string{
		"links its sum elsewhere":     "ln -s VICTIM/file $(KSFT_INSTALL_PATH)/.sum",
		"links its unbuilt elsewhere": "ln -s VICTIM/file $(KSFT_INSTALL_PATH)/.unbuilt.json",
		"is a link elsewhere":         "cp -a $(KSFT_INSTALL_PATH) $(KSFT_INSTALL_PATH).2; rm -rf $(KSFT_INSTALL_PATH); ln -s VICTIM $(KSFT_INSTALL_PATH)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			victim := t.TempDir()
			writeFile(t, filepath.Join(victim, "file"), "{}\n")
			writeFile(t, filepath.Join(victim, selftestsList), "size:test\n")
			repo := fixtureRepo(t)
			makefile, err := os.ReadFile(filepath.Join(repo, "Makefile"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(repo, "Makefile"), string(makefile)+"\nheaders:\n\t@true\n")
			writeFile(t, filepath.Join(repo, SelftestsDir, "Makefile"), "install:\n\t@mkdir -p $(KSFT_INSTALL_PATH)/size\n"+
				"\t@printf '\\043!/bin/sh\\n' >$(KSFT_INSTALL_PATH)/size/test; chmod 755 $(KSFT_INSTALL_PATH)/size/test\n"+
				"\t@echo size:test >$(KSFT_INSTALL_PATH)/kselftest-list.txt\n\t-@"+strings.ReplaceAll(command, "VICTIM", victim)+"\n")
			userGit(t, repo, "add", "-A")
			userGit(t, repo, "commit", "-qm", "hostile")
			b := &Builder{Cache: t.TempDir()}
			// What comes of it is not what matters.
			_, err = b.Selftests(t.Context(), localSpec(repo, "base"), []string{"size", "none"})
			t.Log(err)
			if text, err := os.ReadFile(filepath.Join(victim, "file")); err != nil || string(text) != "{}\n" {
				t.Errorf("the victim's file = %q, %v", text, err)
			}
			if left := strings.Join(list(t, victim), " "); left != "file "+selftestsList {
				t.Errorf("the victim's folder has %q", left)
			}
		})
	}
}
