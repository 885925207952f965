package vmtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/kernel/sandbox"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/counter"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
)

// CellSpec is one program to run once on one kernel.
type CellSpec struct {
	Kernel, Variant string
	Program         Program
	// Iteration counts from 1.
	Iteration int
	// Image is the kernel image to boot.
	Image, Initramfs string
	Accel            qemu.Accel
	// Scale multiplies the deadlines: the variant's.
	Scale float64
	// Features are what the kernel is declared to have; nil leaves it to the
	// program to find out.
	Features []string
	// Known are the issues declared with the kernel's series.
	Known []subjects.KnownIssue
	// Series holds the subjects of the kernel's patches, and Symbols the places of
	// its code; without them complaints stay as the kernel printed them.
	Series  []string
	Symbols *kernel.Symbols
	// Console is the path of the console log to write.
	Console string
	// View is what the guest sees of the host's root, where the program does.
	View sandbox.View
	// Counter is the plugin that counts instructions, where the program is counted.
	Counter string
	// Watch, when set, is told how the cell goes, from several goroutines.
	Watch func(Step)
	// Idle, when set, is told again and again whether the guest does nothing but wait.
	Idle func(idle bool)
	// Enough, when set, says of a check, held against what is declared, that nothing behind it
	// needs to be known. The guest ends there, and so does the cell.
	Enough func(results.Check) bool
	// from is the test of the program's suite to begin with, in which boot of the cell.
	from, boot int
	// busy is how many times slower a busy host made the guest when it was booted before.
	busy float64
	// only are the tests of the program's suite that it is limited to, if it is.
	only []string
	// lacks is an option of the kernel's config that the program needs and that is not
	// there, lacksErr why that is not known.
	lacks    string
	lacksErr error
}

// Step is a cell coming to a phase, or a check that it reported.
type Step struct {
	Kernel, Variant, Program string
	Iteration                int
	Phase                    qemu.Phase
	// Check is the name of the newest check, in the phase running; it is the
	// guest's word.
	Check string
}

// step tells the watcher, if there is one.
func (s CellSpec) step(phase qemu.Phase, check string) {
	if s.Watch != nil {
		s.Watch(Step{Kernel: s.Kernel, Variant: s.Variant, Program: s.Program.Name, Iteration: s.Iteration, Phase: phase, Check: check})
	}
}

// In is the cell on a kernel, with what the laboratory has for all guests.
func (s CellSpec) In(l *lab.Lab, b *kernel.Built) CellSpec {
	s.Image, s.Accel = b.Vmlinux, l.Accel
	if s.lacks, s.lacksErr = b.Lacks(s.Program.Config); s.lacksErr == nil {
		s.Initramfs, s.lacksErr = l.WithModules(l.Initramfs, b)
	}
	if s.Program.Counted {
		s.Counter = l.Counter
	}
	return s
}

// counts is the file that the counter writes, beside the console log.
func (s CellSpec) counts() string { return results.Cell{Console: s.Console}.Counts() }

// log is the console log of this boot.
func (s CellSpec) log() string {
	if s.boot < 2 {
		return s.Console
	}
	return fmt.Sprintf("%s-boot%d.log", strings.TrimSuffix(s.Console, ".log"), s.boot)
}

// cellTries is how often a cell is run that was stopped in the middle, or whose guest
// was so slow that its own clock misled it.
const cellTries = 3

// slowest is how many times slower than by itself a guest may have been made by a busy
// host for what its own clock found late to count.
const slowest = 3

// RunCell boots one VM and says what came of it. What the harness could not do
// is the verdict error, with its reason, and never the kernel's fault. Of a suite, the
// tests behind one that the guest did not survive run in a VM of their own.
func RunCell(ctx context.Context, s CellSpec) results.Cell {
	cell, out := runOnce(ctx, s)
	for boot := 2; out != nil && out.Ending != qemu.Enough && ctx.Err() == nil; boot++ {
		next := s.rest(&cell, out)
		if next >= len(s.suite()) {
			break
		}
		s.from, s.boot = next, boot
		var more results.Cell
		more, out = runOnce(ctx, s)
		join(&cell, more)
	}
	return cell
}

// runOnce boots one VM. Without one, the outcome is nil.
func runOnce(ctx context.Context, s CellSpec) (results.Cell, *qemu.Outcome) {
	if s.lacks != "" || s.lacksErr != nil {
		return s.notRun(), nil
	}
	s.step(qemu.PhaseBooting, "")
	defer s.step(qemu.PhaseEnded, "")
	s.Program.MemoryMiB = s.memory()
	out, again, err := s.boots(ctx)
	if err == nil && s.Program.brought() && out.UnpackedInPart {
		out.QEMUErr = fmt.Errorf("what the tests need does not fit into the guest's memory of %d MiB (%s); MEMORY= gives it more", s.Program.MemoryMiB, console.TooLittle)
	}
	if err == nil && out.Ending == qemu.Silent && s.accel() == qemu.KVM && qemu.SpeaksUnderTCG(ctx, s.Image) {
		out.QEMUErr = errors.New("the guest printed nothing under KVM, and does without it: KVM no longer works as it did when it was probed; ACCEL=tcg runs without it")
	}
	if s.Program.KUnit && err == nil {
		err = addKUnit(out, s)
	}
	f := judge(out, err, s)
	f.reason = event.Printable(cmp.Or(f.reason, again))
	if s.Symbols != nil {
		f.symbolise(ctx, s)
	}
	expect(&f, s)
	cell := results.Cell{
		Kernel:    s.Kernel,
		Variant:   s.Variant,
		Program:   s.Program.Name,
		Iteration: s.Iteration,
		Only:      s.only,
		Version:   s.version(),
		Mode:      string(s.Program.Mode),
		Verdict:   f.verdict,
		Expected:  f.expected,
		Reason:    f.reason,
		Checks:    f.checks,
		Console:   filepath.Base(s.log()),
	}
	if out != nil {
		cell.WallS, cell.BootS = out.Wall.Seconds(), out.Boot.Seconds()
		cell.Metrics = append(printableMetrics(out.Report.Metrics), out.Host...)
		cell.Command = out.Command
		cell.Stopped = stoppedAt(out)
		if cell.Files, err = keepFiles(s.log(), out.Report.Files); err != nil {
			cell.Verdict, cell.Expected, cell.Reason = event.Error, false, err.Error()
		}
	}
	if s.Counter != "" && cell.Verdict == event.Pass {
		if err := counter.Add(&cell, s.counts()); err != nil {
			cell.Verdict, cell.Expected, cell.Reason = event.Error, false, err.Error()
		}
	}
	return cell, out
}

// memory is the guest's, in MiB: the program's, or what takes the tests that are packed for it,
// which lie there twice while they are unpacked.
func (s CellSpec) memory() int {
	info, err := os.Stat(s.Initramfs)
	if err != nil {
		return s.Program.MemoryMiB
	}
	packed := int(info.Size() >> 20)
	if 64+packed*5/2 <= s.Program.MemoryMiB {
		return s.Program.MemoryMiB
	}
	return 128 + 3*packed
}

// boots boots the VM, again if what the guest says of its time can't be trusted, and says
// why it did.
func (s CellSpec) boots(ctx context.Context) (*qemu.Outcome, string, error) {
	again := ""
	for try := 1; ; try++ {
		out, err := s.vm().Run(ctx)
		switch slower := slowdown(out); {
		case err != nil || ctx.Err() != nil:
			return out, again, err
		case out.StoodStill > 0 && try < cellTries:
			// Its clock jumped, so it may well complain.
		case out.StoodStill > 0:
			out.QEMUErr = fmt.Errorf("the harness or QEMU was stopped while the guest ran, each of %d times", cellTries)
			return out, again, nil
		case slower > slowest && saysHang(out) && try < cellTries:
			again = fmt.Sprintf("booted again with longer limits: a busy host made the guest %.1f times slower, and something was late by its own clock", slower)
			s.Scale, s.busy = s.Scale*slower, max(s.busy, 1)*slower
		default:
			return out, again, nil
		}
	}
}

// slowdown is how many times longer the guest took because it waited for the host's
// processors, as far as that can be told.
func slowdown(out *qemu.Outcome) float64 {
	const most = 20
	if out == nil || out.Starved == 0 {
		return 1
	}
	ran := max(out.Wall-out.Starved, out.Wall/most)
	return float64(out.Wall) / float64(ran)
}

// saysHang says that the guest found something late by its own clock, which goes on while
// it waits for the host.
func saysHang(out *qemu.Outcome) bool {
	return slices.ContainsFunc(out.Report.Checks, func(c event.Check) bool { return c.Verdict == event.Hang }) ||
		slices.ContainsFunc(out.Splats, func(s console.Splat) bool { return s.Verdict == event.Hang })
}

// notRun is the cell of a program whose kernel lacks an option that it needs: a skip
// where nobody declared what the kernel has, else an error, as the harness itself
// made the config.
func (s CellSpec) notRun() results.Cell {
	cell := results.Cell{
		Kernel: s.Kernel, Variant: s.Variant, Program: s.Program.Name, Iteration: s.Iteration,
		Version: s.version(), Mode: string(s.Program.Mode), Verdict: event.Error,
	}
	switch {
	case s.lacksErr != nil:
		cell.Reason = s.lacksErr.Error()
	case s.Features != nil:
		cell.Reason = fmt.Sprintf("the kernel has no CONFIG_%s, which the program needs and the variant %s was to give it", s.lacks, s.Variant)
	default:
		cell.Verdict, cell.Expected = event.Skip, true
		cell.Reason = fmt.Sprintf("the kernel has no CONFIG_%s, which the program needs", s.lacks)
	}
	return cell
}

// version is a hash of what the guest runs and how, the same on every machine: an initramfs is
// named by what is in it, and behind a dash by what one build made of that.
func (s CellSpec) version() string {
	p := s.Program
	initramfs, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(s.Initramfs), ".cpio"), "-")
	// Where it lies; what it says is in the initramfs.
	p.Script = ""
	doc, err := json.Marshal(struct {
		Initramfs string
		Program   Program
		Scale     float64
		Features  []string
	}{initramfs, p, s.Scale, s.Features})
	if err != nil {
		// It is strings and figures.
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(doc))[:16]
}

func (s CellSpec) vm() qemu.VM {
	features := "auto"
	if s.Features != nil {
		features = strings.Join(s.Features, ",")
	}
	var brought []string
	if s.Program.brought() {
		brought = append(brought, console.AuthorOption)
	}
	if s.from > 0 {
		brought = append(brought, fmt.Sprintf("%s=%d", event.FromKey, s.from))
	}
	if s.busy > 0 {
		brought = append(brought, fmt.Sprintf("patchproof.busy=%g", s.busy))
	}
	if len(s.only) > 0 {
		brought = append(brought, event.OnlyKey+"="+strings.Join(s.only, ","))
	}
	if s.Program.Net {
		// The kernel sets it up by itself (Documentation/admin-guide/nfs/nfsroot.rst).
		brought = append(brought, fmt.Sprintf("ip=%s::%s:255.255.255.0:guest:eth0:off:%s", event.NetGuest, event.NetHost, event.NetDNS))
	}
	var root *sandbox.View
	if s.Program.HostRoot {
		root = &s.View
	}
	if s.Program.MemoryMiB > idleMiB || !s.Program.brought() {
		// What a subject's programs are declared to show is a matter of timing, too.
		s.Idle = nil
	}
	return qemu.VM{
		Root: root, Net: s.Program.Net,
		Machine: qemu.Machine{Accel: s.accel(), Mode: s.Program.Mode, CPUs: s.Program.CPUs, MemoryMiB: s.Program.MemoryMiB},
		Counter: s.Counter, Counts: s.counts(), Pinned: s.Program.Timed,
		Boot: qemu.Boot{
			Kernel:    s.Image,
			Initramfs: s.Initramfs,
			Append: append([]string{
				"uroot.uinitargs=" + s.Program.command(),
				"patchproof.features=" + features,
				fmt.Sprintf("patchproof.scale=%g", s.scale()),
				fmt.Sprintf("patchproof.cpus=%d", s.Program.CPUs),
				fmt.Sprintf("patchproof.memory=%d", s.Program.MemoryMiB),
				fmt.Sprintf("patchproof.disks=%d", len(s.Program.Devices)),
			}, slices.Concat(brought, s.Program.Append)...),
		},
		Devices:      s.Program.Devices,
		Program:      s.Program.command(),
		BootDeadline: s.deadline(bootDeadline + s.Program.AtBoot),
		Deadline:     s.deadline(s.Program.Deadline),
		Renewed:      s.Program.EachWithin,
		Console:      s.log(),
		Step:         s.step,
		Enough:       s.enough(),
		Idle:         s.Idle,
	}
}

// enough is Enough for a check as the guest reports it.
func (s CellSpec) enough() func(event.Check) bool {
	if s.Enough == nil {
		return nil
	}
	return func(c event.Check) bool {
		f := finding{checks: []results.Check{{Check: c}}}
		expect(&f, s)
		return s.Enough(f.checks[0])
	}
}

// idleMiB is the memory of a guest beside which another may run while it only waits: it
// keeps what it has.
const idleMiB = 1024

// finding is a cell's verdict in the making.
type finding struct {
	verdict  event.Verdict
	expected bool
	reason   string
	checks   []results.Check
	// ended says that the program came to its end, so that it has reported all.
	ended bool
}

// symbolise adds to each of the kernel's complaints the places of the source that
// it names. What cannot be found out is said, and changes no verdict.
func (f *finding) symbolise(ctx context.Context, s CellSpec) {
	for i := range f.checks {
		c := &f.checks[i]
		if !subjects.IsConsole(c.Name) {
			continue
		}
		where, text, err := console.Places(ctx, s.Symbols, s.Series, c.Detail)
		switch {
		case err != nil:
			c.Detail += "\n\n(without places in the source: " + err.Error() + ")"
		case text != "":
			c.Detail += "\n\nIn the patched source:" + text
		}
		c.Where = where
	}
}
