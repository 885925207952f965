package vmtest

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

	"github.com/google/renameio/v2"
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
// KVM counts only after a guest with this kernel and initramfs has reported
// through it: there are hosts where /dev/kvm opens and creates VMs that never
// run, and others where 16-bit code runs and a kernel dies at an instruction
// that KVM cannot emulate. The finding is kept in the cache folder until the
// host boots again. Forced KVM that does not work is an error.
func ChooseAccel(ctx context.Context, want, cache, kernel, initramfs string) (Accel, error) {
	if err := checkAccel(want); err != nil {
		return Accel{}, err
	}
	if want == TCG {
		return Accel{Name: TCG, Reason: "asked for"}, nil
	}
	trouble, err := cachedKVMTrouble(ctx, cache, kernel, initramfs)
	if err != nil {
		return Accel{}, err
	}
	if trouble == "" {
		return Accel{Name: KVM, Reason: "a guest reported through it"}, nil
	}
	if want == KVM {
		return Accel{}, NoKVMError{trouble}
	}
	return Accel{Name: TCG, Reason: "no KVM: " + trouble}, nil
}

// checkAccel finds what is wrong with want before anything is built.
func checkAccel(want string) error {
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

func cachedKVMTrouble(ctx context.Context, cache, kernel, initramfs string) (string, error) {
	if trouble := deviceTrouble(); trouble != "" {
		return trouble, nil
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("the host's boot id: %w", err)
	}
	version, err := FindQEMU(ctx)
	if err != nil {
		return "", err
	}
	now := probed{BootID: strings.TrimSpace(string(bootID)), QEMU: version, UID: os.Getuid()}
	file := filepath.Join(cache, "kvm.json")
	var old probed
	if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &old) == nil {
		now.Trouble = old.Trouble
		if now == old {
			return old.Trouble, nil
		}
	}
	if now.Trouble, err = kvmTrouble(ctx, kernel, initramfs); err != nil {
		return "", err
	}
	text, err := json.Marshal(now)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("the cache cannot be written (choose another with CACHE=): %w", err)
	}
	if err := renameio.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("the cache cannot be written (choose another with CACHE=): %w", err)
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

// probePatience is how long a guest may take from QEMU's start to its
// program's first event: with a working KVM that is about half a second.
const probePatience = 5 * time.Second

// kvmTrouble boots a guest under KVM and says in one line why it did not
// report, or nothing.
func kvmTrouble(ctx context.Context, kernel, initramfs string) (string, error) {
	tmp, err := os.MkdirTemp("", "patchproof-kvm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	probe, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	program, err := SelectPrograms([]string{"nop"}, "")
	if err != nil {
		return "", err
	}
	s := CellSpec{Program: program[0], Image: kernel, Initramfs: initramfs, Accel: Accel{Name: KVM}, Scale: 1, Console: filepath.Join(tmp, "console.log")}
	v := s.vm()
	v.enough = cancel
	out, err := v.run(probe)
	switch {
	case err != nil:
		return "", err
	case ctx.Err() != nil:
		return "", ctx.Err()
	case out.Boot > 0 || out.Printed:
		// A kernel that prints and then fails is the kernel's affair.
		return "", nil
	case out.QEMUErr != nil:
		text, _, _ := strings.Cut(out.QEMUErr.Error(), "\n")
		return text, nil
	}
	return fmt.Sprintf("/dev/kvm opens, but a guest did not report through it within %v", probePatience), nil
}
