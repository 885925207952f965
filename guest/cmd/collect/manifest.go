//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// self is the program's path.
func self() string {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return os.Args[0]
	}
	return path
}

// readManifest reads what lies beside the program.
func readManifest() (event.Manifest, error) {
	var m event.Manifest
	path := filepath.Join(filepath.Dir(self()), "manifest.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return m, fmt.Errorf("this program belongs into a bundle (make bundle), beside its manifest: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// running finds the kernel of the bundle that is running.
func running(m event.Manifest, f event.Facts) event.BundledKernel {
	for _, k := range m.Kernels {
		if k.BuildID != "" && k.BuildID == f.BuildID {
			return k
		}
	}
	return event.BundledKernel{}
}

// choose divides the programs into those to run and those that are refused. A
// program that was named and may not run is an error. before is what was run in this
// boot already.
func choose(m event.Manifest, o options, f event.Facts, before string) (wanted []event.BundledProgram, refused []event.Refused, err error) {
	for _, name := range o.programs {
		if !slices.ContainsFunc(m.Programs, func(p event.BundledProgram) bool { return p.Name == name }) {
			var known []string
			for _, p := range m.Programs {
				known = append(known, p.Name)
			}
			return nil, nil, fmt.Errorf("unknown program %q; known: %s", name, strings.Join(known, ", "))
		}
	}
	for _, p := range m.Programs {
		named := slices.Contains(o.programs, p.Name)
		if len(o.programs) > 0 && !named {
			continue
		}
		why := refusal(p, o, f)
		if why == "" && p.Alone {
			why = crowd(p, o, before)
		}
		switch {
		case why == "":
			wanted = append(wanted, p)
		case named:
			return nil, nil, fmt.Errorf("%s is not run: %s", p.Name, why)
		default:
			refused = append(refused, event.Refused{Program: p.Name, Why: why})
		}
	}
	return wanted, refused, nil
}

// crowd says why a program that needs a boot of its own does not have it. What others
// leave behind in the kernel, and be it a known issue, would be counted as its own.
func crowd(p event.BundledProgram, o options, before string) string {
	switch {
	case before != "":
		return fmt.Sprintf("it needs a boot of its own, and in this one %s was run", before)
	case len(o.programs) != 1:
		return "it needs a boot of its own: collect " + p.Name
	}
	return ""
}

// ranFile says what was run in this boot, where only root can write, or where there
// is nobody else.
func ranFile() string {
	name := "patchproof-ran-" + kernelBootID()
	if _, err := os.Stat("/run"); err != nil {
		return filepath.Join("/tmp", name)
	}
	return filepath.Join("/run", name)
}

// ranBefore is the program that root began last in this boot.
func ranBefore() string {
	text, _ := os.ReadFile(ranFile())
	return strings.TrimSpace(string(text))
}

// noteRan makes the program the one that began last. What anybody may run needs no
// note.
func noteRan(program string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.WriteFile(ranFile(), []byte(program+"\n"), 0o644)
}

// refusal says why a program may not or cannot run here, and nothing when it can.
func refusal(p event.BundledProgram, o options, f event.Facts) string {
	if p.Harm != "" && f.Hypervisor == "" && !o.destructive {
		return fmt.Sprintf("it %s, and this machine is no VM; -destructive allows it", p.Harm)
	}
	if p.Disk && o.scratch == "" {
		return "it writes to a disk; -scratch=/dev/nvme1n1 names one whose content may be lost"
	}
	if (p.Harm != "" || p.Disk) && os.Geteuid() != 0 {
		return "it needs root"
	}
	if p.CPUs > f.CPUs {
		return fmt.Sprintf("it needs %d CPUs", p.CPUs)
	}
	var missing []string
	for _, word := range p.Boot {
		if !slices.Contains(strings.Fields(f.Cmdline), word) {
			missing = append(missing, word)
		}
	}
	if len(missing) > 0 {
		return "the kernel must be booted with " + strings.Join(missing, " ")
	}
	return ""
}
