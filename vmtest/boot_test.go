package vmtest

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/qemu"
)

// BenchmarkBoot measures the way from QEMU's start to a guest program's first
// event against the way to the line of a bare static init, on the same kernel
// and machine, in turns. docs/architecture.md's figure is against a bare Go init: "ratio".
// One of 60 bytes of machine code, which no Go program can come near under TCG,
// gives "ratio-asm".
func BenchmarkBoot(b *testing.B) {
	s := base(b)
	full, err := initramfs.Build(interrupted, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	bareGo := initramfsOf(b, staticGo(b, "./testdata/bare"))
	bareASM := initramfsOf(b, writeELF(b, 0x400000, bareInit(), nil))
	programs, err := SelectPrograms(Selection{Programs: []string{"nop"}}, "plain")
	if err != nil {
		b.Fatal(err)
	}
	s.Program, s.Kernel, s.Variant = programs[0], "base", "plain"
	s.Console = filepath.Join(b.TempDir(), "console.log")
	var gos, asms, events []float64
	for b.Loop() {
		s.Initramfs = bareGo
		gos = append(gos, timeToLine(b, s.vm()).Seconds())
		s.Initramfs = bareASM
		asms = append(asms, timeToLine(b, s.vm()).Seconds())
		s.Initramfs = full
		cell := RunCell(interrupted, s)
		if cell.BootS == 0 {
			b.Fatalf("nop never began: %s %s", cell.Verdict, cell.Reason)
		}
		events = append(events, cell.BootS)
	}
	b.ReportMetric(median(gos), "bare-s")
	b.ReportMetric(median(events), "event-s")
	b.ReportMetric(median(events)/median(gos), "ratio")
	b.ReportMetric(median(events)/median(asms), "ratio-asm")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// timeToLine boots the guest by the command for a person, whose console is QEMU's
// stdout, and returns when bareLine came.
func timeToLine(b *testing.B, v qemu.VM) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(interrupted, "sh", "-c", "exec "+v.Command(true))
	cmd.Dir = b.TempDir()
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	var seen []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		seen = append(seen, lines.Text())
		if took == 0 && strings.Contains(lines.Text(), bareLine) {
			took = time.Since(start)
		}
	}
	if err := cmd.Wait(); err != nil || took == 0 {
		b.Fatalf("the bare guest printed no %s (%v):\n%s", bareLine, err, strings.Join(seen, "\n"))
	}
	return took
}
