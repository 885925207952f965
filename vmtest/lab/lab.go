// Package lab is the laboratory that every campaign stands on: the store and what
// builds kernels into it, what guests need beside a kernel, and the places in which
// they run. A campaign opens one, takes what it needs and closes it.
package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"patchproof/kernel"
	"patchproof/kernel/host"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/counter"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/userland"
)

// Options say what a campaign asks of its laboratory.
type Options struct {
	// Builder is how kernels are made; its Cache is the laboratory's store.
	Builder kernel.Builder
	// Accel is auto, kvm or tcg.
	Accel string
	// Places is how many guests run at once. When it is 0 that is one per processor, and up
	// to as many more while others do nothing but wait.
	Places int
	// NoGuests says that no guest will be booted, so that QEMU need not be there, and
	// NoRecord that nothing is written into results/out.
	NoGuests, NoRecord bool
	// Disk is how many bytes the disks of a guest take, at the most.
	Disk int64
	// Kselftest says that targets of kselftest are built. Install, when set, installs what
	// is missing of the tools that this and all the rest needs.
	Kselftest bool
	Install   func(ctx context.Context, kselftest bool) error
}

// Check finds what on this machine would stop the campaign, before anything is fetched or
// built. What a build needs in addition is looked for by the builder, as soon as it is known
// that there will be one.
func (o Options) Check(ctx context.Context) error {
	if o.Install != nil {
		if err := o.Install(ctx, o.Kselftest); err != nil {
			return err
		}
	}
	// A shell is QEMU's own command line.
	need := host.Need{Cache: o.Builder.Cache, Temp: !o.NoGuests, Guests: !o.NoGuests && !o.NoRecord, Disk: o.Disk}
	if !o.NoRecord {
		root, err := kernel.Checkout()
		if err != nil {
			return err
		}
		need.Results = filepath.Join(root, "results", "out")
	}
	if err := host.Check(need); err != nil || o.NoRecord {
		return err
	}
	return results.CheckRoot(need.Results)
}

// Lab is an open laboratory.
type Lab struct {
	Builder kernel.Builder
	// QEMU is its version.
	QEMU string
	// Accel is how guests run, and is known after Ready.
	Accel qemu.Accel
	// Initramfs is what guests boot into, after Furnish.
	Initramfs string
	// Counter is the plugin that counts instructions, after Furnish when it was
	// asked for.
	Counter string

	// Shard, when set, is what is recorded of the part of the plan that is run.
	Shard *results.Shard

	accel    string
	release  func()
	building sync.Mutex
	places

	packing sync.Mutex
	// packed are the results of WithModules, by what they were made of.
	packed map[string]string
}

// Open makes the checks, finds QEMU and keeps the store from being pruned until Close.
func Open(ctx context.Context, o Options) (*Lab, error) {
	if err := o.Check(ctx); err != nil {
		return nil, err
	}
	l := &Lab{Builder: o.Builder, accel: o.Accel}
	l.free = cmp.Or(o.Places, runtime.NumCPU())
	if o.Places == 0 {
		l.spare = l.free
	}
	var err error
	if !o.NoGuests {
		if l.QEMU, err = qemu.Find(ctx); err != nil {
			return nil, err
		}
	}
	l.release, err = kernel.Store{Dir: o.Builder.Cache}.Use(ctx)
	return l, err
}

// Close lets the store be pruned again.
func (l *Lab) Close() { l.release() }

// Furnish makes what all guests boot into, and the counter of instructions where it
// will be needed, unless they are in the store.
func (l *Lab) Furnish(ctx context.Context, counted bool) (err error) {
	if l.Initramfs == "" {
		l.Initramfs, err = initramfs.Build(ctx, l.Builder.Cache)
	}
	if err == nil && counted {
		l.Counter, err = counter.Build(ctx, l.Builder.Cache)
	}
	return err
}

// Build makes a kernel, one at a time: each build uses all processors, and two would
// wait for each other's locks in the store.
func (l *Lab) Build(ctx context.Context, spec kernel.Spec, variant kernel.Variant) (*kernel.Built, error) {
	l.building.Lock()
	defer l.building.Unlock()
	return l.Builder.Build(ctx, spec, variant)
}

// Ready chooses the accelerator, by booting the first kernel where that is needed.
func (l *Lab) Ready(ctx context.Context, first *kernel.Built) (err error) {
	if l.Accel.Name == "" {
		l.Accel, err = qemu.ChooseAccel(ctx, l.accel, l.Builder.Cache, first.Vmlinux)
	}
	return err
}

// WithModules returns what guests of a kernel boot into: what all guests do, and behind it
// the kernel's modules and what loads them, where it has any.
func (l *Lab) WithModules(base string, b *kernel.Built) (string, error) {
	if b.Modules == "" {
		return base, nil
	}
	l.packing.Lock()
	defer l.packing.Unlock()
	of := base + " " + b.Key
	if file := l.packed[of]; file != "" {
		return file, nil
	}
	file, err := initramfs.With(l.Builder.Cache, base, func() ([]byte, error) {
		modules, err := os.ReadFile(b.Modules)
		if err != nil {
			return nil, err
		}
		loader, err := userland.Loader()
		return initramfs.Join(modules, loader), err
	})
	if err != nil {
		return "", fmt.Errorf("the modules of kernel %s: %w", b.Spec.Name, err)
	}
	if l.packed == nil {
		l.packed = map[string]string{}
	}
	l.packed[of] = file
	return file, nil
}

// Record begins the record of a run of that subject, which may be nil, in results/out
// of the checkout.
func (l *Lab) Record(selection map[string]string, subject *subjects.Subject) (*results.Writer, error) {
	root, err := kernel.Checkout()
	if err != nil {
		return nil, err
	}
	harness, err := harness(root)
	if err != nil {
		return nil, fmt.Errorf("telling which patchproof this is: %w", err)
	}
	run := results.Run{
		Harness: harness, Shard: l.Shard, Command: os.Args, Selection: selection, Host: qemu.Host(), QEMU: l.QEMU, Accel: results.Accel(l.Accel),
	}
	if subject != nil {
		run.Subject = subject.Name
	}
	return results.Create(filepath.Join(root, "results", "out"), run)
}
