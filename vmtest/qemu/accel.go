package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchproof/kernel"
	"patchproof/kernel/host"
	"patchproof/results/seal"
)

// The accelerators, as ACCEL names them. auto is KVM where it works and TCG elsewhere.
const (
	auto = "auto"
	KVM  = "kvm"
	TCG  = "tcg"
)

// Accel is how QEMU runs the guests.
type Accel struct {
	// Name is kvm or tcg.
	Name string
	// Reason says in one line why it was chosen.
	Reason string
}

// NoKVMError means that KVM was forced and does not work.
type NoKVMError struct {
	// Trouble says in one line why.
	Trouble string
}

func (e NoKVMError) Error() string { return "ACCEL=kvm, but KVM does not work here: " + e.Trouble }

// ChooseAccel chooses the accelerator for want: auto (or nothing), kvm or tcg.
// KVM counts only after a guest with this kernel has printed something
// through it: there are hosts where /dev/kvm opens and creates VMs that never
// run, and others where 16-bit code runs and a kernel dies at an instruction
// that KVM cannot emulate. The finding is kept in the cache folder until the
// host boots again. Forced KVM that does not work is an error.
func ChooseAccel(ctx context.Context, want, cache, kernel string) (Accel, error) {
	if err := CheckAccel(want); err != nil {
		return Accel{}, err
	}
	if want == TCG {
		return Accel{Name: TCG, Reason: "asked for"}, nil
	}
	trouble, err := cachedKVMTrouble(ctx, cache, kernel)
	if err != nil {
		return Accel{}, err
	}
	if trouble == "" {
		return Accel{Name: KVM, Reason: "a guest ran through it"}, nil
	}
	if want == KVM {
		return Accel{}, NoKVMError{trouble}
	}
	return Accel{Name: TCG, Reason: "no KVM: " + trouble}, nil
}

// CheckAccel finds what is wrong with want before anything is built.
func CheckAccel(want string) error {
	if !slices.Contains([]string{"", auto, KVM, TCG}, want) {
		return fmt.Errorf("unknown ACCEL %q; known: %s, %s, %s", want, auto, KVM, TCG)
	}
	if trouble := deviceTrouble(); want == KVM && trouble != "" {
		return NoKVMError{trouble}
	}
	return nil
}

// probed is the cached finding.
type probed struct {
	// BootID is the host's, from /proc/sys/kernel/random/boot_id.
	BootID string `json:"boot_id"`
	// QEMU is the version that was probed with.
	QEMU string `json:"qemu"`
	// UID is the user who probed: permissions on /dev/kvm are personal.
	UID int `json:"uid"`
	// Trouble says why KVM does not work; empty means that it does.
	Trouble string `json:"trouble"`
}

func cachedKVMTrouble(ctx context.Context, cache, kernel string) (string, error) {
	if trouble := deviceTrouble(); trouble != "" {
		return trouble, nil
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("the host's boot id: %w", err)
	}
	version, err := Find(ctx)
	if err != nil {
		return "", err
	}
	now := probed{BootID: strings.TrimSpace(string(bootID)), QEMU: version, UID: os.Getuid()}
	file := filepath.Join(cache, "kvm.json")
	var old probed
	if text, sealed, err := seal.Read(file); err == nil && sealed && json.Unmarshal(text, &old) == nil {
		now.Trouble = old.Trouble
		if now == old {
			return old.Trouble, nil
		}
	}
	if now.Trouble, err = kvmTrouble(ctx, kernel); err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	if err := seal.Write(file, now); err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	return now.Trouble, nil
}

// deviceTrouble says why KVM cannot work, as far as that is to be seen without
// a guest.
func deviceTrouble() string {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "/dev/kvm does not exist"
	case errors.Is(err, os.ErrPermission):
		return "/dev/kvm may not be opened by this user"
	case err != nil:
		return err.Error()
	}
	dev.Close()
	return ""
}

// probePatience is how long a guest may take from QEMU's start to its first
// character: with a working KVM that is a fraction of a second. Where the host keeps it
// from its processors, it gets twice as long, up to mostPatience.
const (
	probePatience = 5 * time.Second
	mostPatience  = 8 * probePatience
)

// kvmTrouble boots a guest under KVM and says in one line why it did not print
// anything, or nothing.
func kvmTrouble(ctx context.Context, kernel string) (string, error) {
	out, err := tryOut(ctx, KVM, kernel)
	switch {
	case err != nil:
		return "", err
	case ctx.Err() != nil:
		return "", ctx.Err()
	case out.Printed:
		// A kernel that prints and then fails is the kernel's affair.
		return "", nil
	case out.QEMUErr != nil:
		text, _, _ := strings.Cut(out.QEMUErr.Error(), "\n")
		return text, nil
	}
	return fmt.Sprintf("/dev/kvm opens, but a guest printed nothing through it within %v", probePatience), nil
}

// tryOut boots a kernel until it prints something.
func tryOut(ctx context.Context, accel, image string) (*Outcome, error) {
	tmp, remove, err := kernel.TempDir("try")
	if err != nil {
		return nil, err
	}
	defer remove()
	for patience := probePatience; ; patience *= 2 {
		probe, cancel := context.WithTimeout(ctx, patience)
		out, err := VM{
			Machine: Machine{Accel: accel, CPUs: 2, MemoryMiB: 256}, Boot: Boot{Kernel: image},
			BootDeadline: 2 * patience, Console: filepath.Join(tmp, "console.log"), spoke: cancel,
		}.Run(probe)
		cancel()
		if err != nil || ctx.Err() != nil || out.Printed || out.Starved < patience/2 || patience >= mostPatience {
			return out, err
		}
	}
}

// SpeaksUnderTCG reports whether a kernel that printed nothing through KVM prints
// something without it: then KVM has gone wrong since it was tried.
func SpeaksUnderTCG(ctx context.Context, image string) bool {
	out, err := tryOut(ctx, TCG, image)
	return err == nil && out.Printed
}
