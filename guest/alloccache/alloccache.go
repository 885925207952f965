// Package alloccache reads the AllocCache section that the RFC "io_uring:
// io_kiocb alloc cache" adds to a ring's /proc/<pid>/fdinfo/<fd>, and knows the
// rules by which its counters move.
package alloccache

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Feature is the name under which the line-up declares a kernel with the patch.
const Feature = "alloc-cache"

// Slab is the slab cache that requests come from.
const Slab = "io_kiocb"

// Max is the number of requests that a list of available requests may hold;
// one more and the whole list goes to the free list (IO_KIOCB_CACHE_MAX,
// io_req_cache_free).
const Max = 256

// Classes is the number of caches per CPU: requests that complete without an
// interrupt (irq=0) and those that may complete in one (irq=1).
const Classes = 2

// ErrAbsent means that the fdinfo has no AllocCache section: the kernel does
// not have the patch.
var ErrAbsent = errors.New("no AllocCache section")

// header is the line that starts the section (__io_uring_show_fdinfo).
const header = "AllocCache:"

// Row is one cache of one CPU.
type Row struct {
	CPU int
	// IRQ is the class: 1 for requests that may complete in an interrupt.
	IRQ int
	// Free counts the requests that wait for the shrinker; nothing takes from
	// them any more.
	Free int
	// Avail counts the requests that the next allocation can take.
	Avail int
}

func (r Row) String() string {
	return fmt.Sprintf("  cpu%d: irq=%d, nr_free=%d, nr_avail=%d", r.CPU, r.IRQ, r.Free, r.Avail)
}

// Format prints rows as the section has them.
func Format(rows []Row) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// Read reads the section in the fdinfo of a ring of this process. The caches
// belong to the kernel: every ring shows the same ones.
func Read(ring int) ([]Row, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", ring))
	if err != nil {
		return nil, err
	}
	return Parse(string(text))
}

// Parse reads the section out of a whole fdinfo text. The section is the last
// thing in it; any other line within, or a line that is not printed exactly as
// the patch prints it, is an error. Counters may be negative, as the patch
// prints an unsigned that underflowed.
func Parse(fdinfo string) ([]Row, error) {
	_, section, found := strings.Cut("\n"+fdinfo, "\n"+header+"\n")
	if !found {
		return nil, ErrAbsent
	}
	if section == "" {
		return nil, fmt.Errorf("the %s section has no rows", header)
	}
	if !strings.HasSuffix(section, "\n") {
		return nil, fmt.Errorf("the %s section ends in the middle of a line", header)
	}
	var rows []Row
	for line := range strings.SplitSeq(strings.TrimSuffix(section, "\n"), "\n") {
		row, err := parseRow(line)
		if err != nil {
			return nil, fmt.Errorf("%s row %d: %w", header, len(rows)+1, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// parseRow takes the four numbers where they must be, prints them again, and
// accepts only the very same line.
func parseRow(line string) (Row, error) {
	words := strings.Fields(line)
	if len(words) != 4 {
		return Row{}, fmt.Errorf("%q has %d words; want 4", line, len(words))
	}
	var n [4]int
	for i, affix := range [4][2]string{{"cpu", ":"}, {"irq=", ","}, {"nr_free=", ","}, {"nr_avail=", ""}} {
		digits := strings.TrimSuffix(strings.TrimPrefix(words[i], affix[0]), affix[1])
		v, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return Row{}, fmt.Errorf("%q: %q is no number", line, words[i])
		}
		n[i] = int(v)
	}
	row := Row{CPU: n[0], IRQ: n[1], Free: n[2], Avail: n[3]}
	if row.CPU < 0 || row.IRQ < 0 || row.IRQ >= Classes {
		return Row{}, fmt.Errorf("%q names no cache", line)
	}
	if row.String() != line {
		return Row{}, fmt.Errorf("%q is not how the patch prints a row (%q)", line, row)
	}
	return row, nil
}

// After predicts the row after n requests of its class were in flight at the
// same time, all taken on its CPU and then freed on it one by one.
func (r Row) After(n int) Row {
	r = r.take(n)
	for range n {
		r = r.put(1)
	}
	return r
}

// take is the row after n requests were taken: available ones first
// (io_req_cache_alloc).
func (r Row) take(n int) Row {
	r.Avail = max(0, r.Avail-n)
	return r
}

// put is the row after n requests became available at once. When that makes
// more than Max, all that are available move to the free list
// (io_req_cache_free, io_req_cache_free_bulk, io_req_cache_reclaim).
func (r Row) put(n int) Row {
	r.Avail += n
	if r.Avail > Max {
		r.Free += r.Avail
		r.Avail = 0
	}
	return r
}

// Total is the number of requests that a set of rows of one class holds.
func Total(rows []Row, irq int) int {
	total := 0
	for _, r := range rows {
		if r.IRQ == irq {
			total += r.Free + r.Avail
		}
	}
	return total
}

// NoneOn says what the rows of a CPU that is offline still hold, if anything.
func NoneOn(rows []Row, cpu int) error {
	for _, r := range rows {
		if r.CPU == cpu && (r.Free != 0 || r.Avail != 0) {
			return fmt.Errorf("CPU %d is offline, but has %s", cpu, r)
		}
	}
	return nil
}
