//go:build linux

package alloccache

import (
	"strconv"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

// Report reports the counters of the request cache, so that people can see them
// move: during says what is going on, at how far it has come, and steps count from
// 0. The metric "snapshot" has the guest's uptime, apart from the counters, which
// are the same in every run where it never is.
func Report(t *report.T, during string, step int, at string, rows []Row) {
	number := strconv.Itoa(step)
	for _, r := range rows {
		labels := map[string]string{"cpu": strconv.Itoa(r.CPU), "irq": strconv.Itoa(r.IRQ), "during": during, "step": number}
		t.Metric("nr_avail", float64(r.Avail), "requests", labels)
		t.Metric("nr_free", float64(r.Free), "requests", labels)
	}
	t.Metric("snapshot", machine.Uptime().Seconds(), "s", map[string]string{"during": during, "step": number, "at": at})
}
