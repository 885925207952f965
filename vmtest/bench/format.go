package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"

	"patchproof/results"
	"patchproof/vmtest"
)

// WriteBenchfmt writes one kernel's figures in Go's benchmark format, one line per
// workload and boot, as benchstat reads them.
func WriteBenchfmt(w io.Writer, run *results.Run, kernel results.Kernel, rows []Row) error {
	out := benchfmt.NewWriter(w)
	if err := out.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: vmtest.UnitInsns, Key: "better"}, OrigUnit: vmtest.UnitInsns, Value: "lower"}); err != nil {
		return err
	}
	if err := out.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: vmtest.UnitInsns, Key: "assume"}, OrigUnit: vmtest.UnitInsns, Value: "exact"}); err != nil {
		return err
	}
	result := &benchfmt.Result{}
	for key, value := range map[string]string{"pin": kernel.Pin, "commit": kernel.Commit, "config": kernel.ConfigHash, "qemu": run.QEMU} {
		result.SetConfig(key, value)
	}
	for _, row := range rows {
		for _, f := range row.Kernels {
			if f.Kernel != kernel.Name {
				continue
			}
			for _, insns := range f.Boots {
				r := result.Clone()
				r.Name, r.Iters = benchfmt.Name(row.Bench), f.Ops
				r.Values = []benchfmt.Value{{Value: insns, Unit: vmtest.UnitInsns}}
				if err := out.Write(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// WriteTable writes the figures for people: kernel by kernel, the difference to the
// first, and how sure it is.
func WriteTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var kernels []string
	for _, row := range rows {
		if len(row.Kernels) > len(kernels) {
			kernels = nil
			for _, f := range row.Kernels {
				kernels = append(kernels, f.Kernel)
			}
		}
	}
	fmt.Fprintf(t, "insns/op\t%s\t", strings.Join(kernels, "\t"))
	if len(kernels) > 1 {
		fmt.Fprint(t, "difference\t")
	}
	fmt.Fprintln(t, "boots agree to\t")
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t", row.Bench)
		for _, f := range row.Kernels {
			fmt.Fprintf(t, "%.2f\t", f.Value())
		}
		if len(row.Kernels) > 1 {
			fmt.Fprintf(t, "%s\t", row.difference())
		}
		fmt.Fprintf(t, "%s\t\n", row.agreement())
	}
	return t.Flush()
}

// difference is what the last kernel needs more than the first; ~ where that is
// less than boots of one kernel differ by.
func (r Row) difference() string {
	first, last := r.Kernels[0], r.Kernels[len(r.Kernels)-1]
	delta := last.Value()/first.Value() - 1
	if math.Abs(delta) <= max(first.Spread(), last.Spread()) {
		return "~"
	}
	return fmt.Sprintf("%+.2f%%", 100*delta)
}

// agreement is how far the boots of a kernel are apart.
func (r Row) agreement() string {
	spread, boots := 0.0, math.MaxInt
	for _, f := range r.Kernels {
		spread = max(spread, f.Spread())
		boots = min(boots, len(f.Boots))
	}
	switch {
	case boots < 2:
		return "one boot"
	case spread == 0:
		return "the instruction"
	}
	return fmt.Sprintf("%.3f%%", 100*spread)
}

// WriteAttribution writes where the difference of a workload comes from: its parts,
// then the functions that gained or lost most.
func WriteAttribution(w io.Writer, a Attribution) error {
	const most = 12
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s\t%s\tdifference\t\n", a.Bench, strings.Join(a.Kernels, "\t"))
	for i, s := range append(a.Parts, a.Functions[:min(most, len(a.Functions))]...) {
		if i == len(a.Parts) {
			fmt.Fprintln(t, "\t")
		}
		fmt.Fprintf(t, "%s\t", s.Name)
		for _, n := range s.Insns {
			fmt.Fprintf(t, "%.2f\t", n)
		}
		fmt.Fprintf(t, "%+.2f\t\n", s.delta())
	}
	return t.Flush()
}
