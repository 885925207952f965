package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"

	"patchproof/results"
	"patchproof/vmtest/counter"
)

// writeBenchfmt writes one kernel's figures in Go's benchmark format, one line per
// workload and boot, as benchstat reads them.
func writeBenchfmt(w io.Writer, run *results.Run, kernel results.Kernel, rows []Row) error {
	out := benchfmt.NewWriter(w)
	// What benchstat does not know of itself, as it does of time.
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Unit == counter.UnitInsns }) {
		for _, about := range [][2]string{{"better", "lower"}, {"assume", "exact"}} {
			if err := out.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: counter.UnitInsns, Key: about[0]}, OrigUnit: counter.UnitInsns, Value: about[1]}); err != nil {
				return err
			}
		}
	}
	result := benchConfig(run, kernel)
	for _, row := range rows {
		for _, f := range row.Kernels {
			if f.Kernel != kernel.Name {
				continue
			}
			for _, value := range f.Boots {
				r := result.Clone()
				r.Name, r.Iters = benchfmt.Name(row.Bench), f.Ops
				tidy, unit := benchunit.Tidy(value, row.Unit)
				r.Values = []benchfmt.Value{{Value: tidy, Unit: unit, OrigValue: value, OrigUnit: row.Unit}}
				if err := out.Write(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// benchConfig is a result with what all lines of a run have in common. What differs
// between the kernels must not be there: benchstat compares only lines that agree
// in it.
func benchConfig(run *results.Run, kernel results.Kernel) *benchfmt.Result {
	result := &benchfmt.Result{}
	for _, c := range [][2]string{{"pin", kernel.Pin}, {"qemu", run.QEMU}, {"accel", run.Accel.Name}, {"cpu", run.Host.CPU}} {
		if c[1] != "" {
			result.Config = append(result.Config, benchfmt.Config{Key: c[0], Value: []byte(c[1]), File: true})
		}
	}
	return result
}

// writeTables writes the figures for people: kernel by kernel, the difference to the
// first, and how sure it is. Each unit has a table of its own.
func writeTables(w io.Writer, rows []Row) error {
	for first := true; len(rows) > 0; first = false {
		if !first {
			fmt.Fprintln(w)
		}
		unit := rows[0].Unit
		other := func(r Row) bool { return r.Unit != unit }
		if err := writeTable(w, unit, slices.DeleteFunc(slices.Clone(rows), other)); err != nil {
			return err
		}
		rows = slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !other(r) })
	}
	return nil
}

func writeTable(w io.Writer, unit string, rows []Row) error {
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
	fmt.Fprintf(t, "%s\t%s\t", unit, strings.Join(kernels, "\t"))
	if len(kernels) > 1 {
		fmt.Fprint(t, "difference\t")
	}
	fmt.Fprintln(t, "boots agree to\t")
	format := "%.2f\t"
	if unit != counter.UnitInsns {
		format = "%.0f\t"
	}
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t", row.Bench)
		for _, f := range row.Kernels {
			fmt.Fprintf(t, format, f.Value())
		}
		if len(row.Kernels) > 1 {
			fmt.Fprintf(t, "%s\t", row.difference())
		}
		fmt.Fprintf(t, "%s\t\n", row.agreement())
	}
	return t.Flush()
}

// certain is by how much more than boots of one kernel two kernels must differ for
// that to be shown.
const certain = 3

// difference is what the last kernel needs more than the first; ~ where boots of one
// kernel differ too much to tell.
func (r Row) difference() string {
	first, last := r.Kernels[0], r.Kernels[len(r.Kernels)-1]
	delta := last.Value() - first.Value()
	apart := func(f Figure) float64 { return f.Boots[len(f.Boots)-1] - f.Boots[0] }
	switch {
	case math.Abs(delta) <= certain*max(apart(first), apart(last)):
		return "~"
	case first.Value() == 0:
		return "from none"
	}
	return fmt.Sprintf("%+.2f%%", 100*delta/first.Value())
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
	case spread == 0 && r.Unit == counter.UnitInsns:
		return "the instruction"
	case spread == 0:
		return "all"
	case math.IsInf(spread, 0):
		return "not"
	}
	return fmt.Sprintf("%.3f%%", 100*spread)
}

// writeAttribution writes where the difference of a workload comes from: its parts,
// then the functions that gained or lost most.
func writeAttribution(w io.Writer, a Attribution) error {
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
