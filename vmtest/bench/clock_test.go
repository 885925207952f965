package bench

import (
	"os"
	"path/filepath"
	"testing"

	"patchproof/guest/event"
	"patchproof/vmtest"
	"patchproof/vmtest/counter"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/qemu"
)

// The guest's clock works from the boot option to the table's rows. It is tried
// under TCG, which make bench refuses: what the times are does not matter here.
func TestClockOfARealGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots a kernel")
	}
	sel, err := vmtest.FromEnv(func(name string) string {
		return map[string]string{"CACHE": os.Getenv("CACHE"), "KERNELS": "base"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	sel.Accel = qemu.TCG
	// One thread, a thread on every CPU, and windows that must be prepared.
	if sel.Run, err = Programs(rfc(t), []string{"nop", "cpus", "states"}, Time); err != nil {
		t.Fatal(err)
	}
	plan, err := vmtest.Prepare(t.Context(), sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plan.End(t.Context()) })
	kernels, err := plan.Kernels()
	if err != nil {
		t.Fatal(err)
	}
	initramfs, err := initramfs.Build(t.Context(), sel.Cache)
	if err != nil {
		t.Fatal(err)
	}
	r := run()
	for _, spec := range plan.Cells {
		spec.Image, spec.Initramfs, spec.Accel = kernels[0].Vmlinux, initramfs, qemu.Accel{Name: qemu.TCG}
		spec.Console = filepath.Join(t.TempDir(), "console.log")
		cell := vmtest.RunCell(t.Context(), spec)
		if cell.Verdict != event.Pass {
			t.Fatalf("%s = %s, %s %+v", cell.Program, cell.Verdict, cell.Reason, cell.Checks)
		}
		r.Cells = append(r.Cells, cell)
		windows, median := map[string][]float64{}, map[string]float64{}
		from := map[string]bool{}
		for _, m := range cell.Metrics {
			switch m.Name {
			case metricTime:
				median[m.Labels[counter.LabelBench]] = m.Value
			case "time-window":
				windows[m.Labels[counter.LabelBench]] = append(windows[m.Labels[counter.LabelBench]], m.Value)
			case qemu.MetricSteal:
				from[m.Labels[qemu.LabelFrom]] = true
			}
		}
		if !from["guest"] || !from["host"] {
			t.Errorf("%s: steal from %v; want it from guest and host", cell.Program, from)
		}
		for bench, m := range median {
			w := windows[bench]
			threads := 1
			if spec.Program.CPUs > 1 && bench == "Nop/cpus=2/batch=32" {
				threads = 2
			}
			if len(w) != 21*threads || w[0] <= 0 || m != w[len(w)/2] || w[0] > m || m > w[len(w)-1] {
				t.Errorf("%s: median %g of %d windows %v; want the one in the middle of %d", bench, m, len(w), w, 21*threads)
			}
		}
	}
	rows := TimeRows(rfc(t), r)
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range rows {
		if f := row.Kernels[0]; f.Median <= 0 || f.Ops <= 0 || len(f.Boots) != 1 {
			t.Errorf("%s: %+v; want one boot with time and operations", row.Bench, f)
		}
		t.Logf("%s: %d operations", row.Bench, row.Kernels[0].Ops)
	}
	t.Log(doubtsOf(rfc(t), r))
}
