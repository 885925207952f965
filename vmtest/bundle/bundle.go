// Package bundle packs kernels and programs for machines that are no VM of the
// harness's: one archive with all that such a machine needs to boot them, run the
// programs and bring the results back (patchproof results import).
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/google/renameio/v2"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bench"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/lab"
)

// Make builds the selected kernels and the programs and writes the archive into
// dir, whose name it returns. Equal content gives an equal file of the same name.
func Make(ctx context.Context, dir string, sel vmtest.Selection, progress func(kernel.Progress)) (path string, err error) {
	specs, variant, err := resolve(sel)
	if err != nil {
		return "", err
	}
	options := sel.Lab(progress)
	options.NoGuests = true
	l, err := lab.Open(ctx, options)
	if err != nil {
		return "", err
	}
	defer l.Close()
	files := map[string][]byte{}
	subject, err := kernel.NamedSubject(sel.Subject)
	if err != nil {
		return "", err
	}
	timed, err := benches(subject)
	if err != nil {
		return "", err
	}
	m := event.Manifest{Programs: append(vmtest.IronPrograms(subject), timed...)}
	for _, spec := range specs {
		built, err := l.Build(ctx, spec, variant)
		if err != nil {
			return "", err
		}
		k, err := pack(built, needs(subject), files)
		if err != nil {
			return "", err
		}
		m.Kernels = append(m.Kernels, k)
	}
	guest, bb, err := initramfs.Shell(ctx, sel.Cache)
	if err != nil {
		return "", err
	}
	files["bb"] = bb
	m.Bundle = hashOf(m, files)
	if files["manifest.json"], err = json.MarshalIndent(m, "", "  "); err != nil {
		return "", err
	}
	if files["initramfs.cpio.gz"], err = withManifest(guest, files["manifest.json"]); err != nil {
		return "", err
	}
	if files["README"], err = readme(m, specs); err != nil {
		return "", err
	}
	name := "patchproof-bundle-" + m.Bundle
	archive, err := packed(name, files)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name+".tar.gz")
	return path, renameio.WriteFile(path, archive, 0o644)
}

// resolve checks the selection before anything is built.
func resolve(sel vmtest.Selection) ([]kernel.Spec, kernel.Variant, error) {
	lineup, err := kernel.Load()
	if err != nil {
		return nil, kernel.Variant{}, err
	}
	forMachines, err := lineup.Variant(kernel.RoleHardware)
	if err != nil {
		return nil, kernel.Variant{}, err
	}
	if sel.Variant == "" {
		sel.Variant = forMachines.Name
	}
	specs, variant, err := lineup.Resolve(sel.Selection)
	if err != nil {
		return nil, kernel.Variant{}, err
	}
	if variant.Role != kernel.RoleHardware {
		return nil, kernel.Variant{}, fmt.Errorf("VARIANT=%s is for VMs, which boot a bare vmlinux; a bundle is of VARIANT=%s", variant.Name, forMachines.Name)
	}
	for _, f := range variant.Config {
		if err := f.RefuseModules(); err != nil {
			return nil, kernel.Variant{}, fmt.Errorf("CONFIG: %w", err)
		}
	}
	return specs, variant, nil
}

// benches are the benchmarks of a bundle.
func benches(subject *subjects.Subject) ([]event.BundledProgram, error) {
	if len(subject.Bench.Hardware) == 0 {
		return nil, nil
	}
	programs, err := bench.Programs(subject.Bench, subject.Bench.Hardware, bench.Time)
	var all []event.BundledProgram
	for _, p := range programs {
		all = append(all, p.Bundled())
	}
	return all, err
}

// needed are the options without which a kernel would not even get to the runner.
var needed = []string{"BLK_DEV_INITRD", "RD_GZIP", "BINFMT_ELF", "DEVTMPFS", "PROC_FS", "SYSFS", "TMPFS", "FUTEX", "EPOLL"}

// needs adds what the subject's programs ask for, but for disks: a machine has its own.
func needs(subject *subjects.Subject) []string {
	all := slices.Clone(needed)
	for _, p := range subject.Programs {
		if slices.Contains(subject.Hardware, p.Name) && len(p.Devices) == 0 {
			all = append(all, p.Config...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// pack adds a kernel's files and returns what the manifest says of it.
func pack(built *kernel.Built, options []string, files map[string][]byte) (event.BundledKernel, error) {
	name := built.Spec.Name
	k := event.BundledKernel{Name: name, Image: "bzImage-" + name}
	config, err := os.ReadFile(built.Config)
	if err != nil {
		return k, err
	}
	var missing []string
	for _, option := range options {
		if !strings.Contains(string(config), "\nCONFIG_"+option+"=y\n") {
			missing = append(missing, "CONFIG_"+option+"=y")
		}
	}
	if len(missing) > 0 {
		return k, fmt.Errorf("kernel %s would not boot to the runner: its config lacks %s", name, strings.Join(missing, " "))
	}
	files["config-"+name] = config
	if files[k.Image], err = os.ReadFile(built.Vmlinux); err != nil {
		return k, err
	}
	if k.BuildID, err = buildID(filepath.Join(built.Dir, "vmlinux")); err != nil {
		return k, err
	}
	k.Features = vmtest.DeclaredFeatures(built.Spec)
	record := vmtest.KernelRecord(built)
	record.Vmlinux = "" // a path of this machine
	if k.Record, err = json.Marshal(record); err != nil {
		return k, err
	}
	k.Known, err = json.Marshal(built.Spec.Known)
	return k, err
}

// buildID reads the linker's build id.
func buildID(vmlinux string) (string, error) {
	image, err := elf.Open(vmlinux)
	if err != nil {
		return "", err
	}
	defer image.Close()
	section := image.Section(".notes")
	if section == nil {
		return "", fmt.Errorf("%s has no notes, by which a running kernel is known", vmlinux)
	}
	notes, err := section.Data()
	if err != nil {
		return "", err
	}
	id := event.BuildID(notes)
	if id == "" {
		return "", fmt.Errorf("%s has no build id, by which a running kernel is known", vmlinux)
	}
	return id, nil
}

// hashOf names a bundle by its content.
func hashOf(m event.Manifest, files map[string][]byte) string {
	h := sha256.New()
	json.NewEncoder(h).Encode(m)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// withManifest is the guest's one with the manifest beside the programs, compressed.
// The kernel takes archives that follow each other
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func withManifest(guest, manifest []byte) ([]byte, error) {
	more, err := initramfs.Archive(map[string][]byte{"bbin/manifest.json": manifest}, map[string]string{"bin/defaultsh": "/bbin/gosh"})
	if err != nil {
		return nil, err
	}
	return compressed(guest, more)
}

// level compresses fast: most of it is a kernel that is compressed already.
const level = 3

func compressed(parts ...[]byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return out.Bytes(), err
}

// packed makes the archive: one folder, names sorted, no times and no owners.
func packed(folder string, files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if name == "bb" {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Name: folder + "/" + name, Mode: mode, Size: int64(len(files[name])), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compressed(out.Bytes())
}

//go:embed README.tmpl
var readmeText string

// readme is the bundle's manual.
func readme(m event.Manifest, specs []kernel.Spec) ([]byte, error) {
	// What the harmless programs need; the others say it themselves.
	var boot []string
	for _, p := range m.Programs {
		if !p.Alone {
			boot = append(boot, p.Boot...)
		}
	}
	slices.Sort(boot)
	t, err := template.New("README").Parse(readmeText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Manifest": m, "Pin": specs[0].Pin.Name, "Boot": slices.Compact(boot), "Last": m.Kernels[len(m.Kernels)-1]})
	return out.Bytes(), err
}

// Judge completes a cell of an import, see results.Import.
func Judge(c *results.Cell, log []string, known json.RawMessage) error {
	var issues []subjects.KnownIssue
	if len(known) > 0 {
		if err := json.Unmarshal(known, &issues); err != nil {
			return fmt.Errorf("the issues declared in the bundle: %w", err)
		}
	}
	for i, k := range issues {
		issues[i] = k.AsOf(time.Now())
	}
	return vmtest.JudgeIron(c, log, issues)
}
