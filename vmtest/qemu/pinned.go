package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// The metrics that the host adds to a timed cell, with the label from=host. A
// program reports the last two as well, with from=guest.
const (
	// MetricPinned is the host's processor that a processor of the guest, label
	// vcpu, was bound to.
	MetricPinned = "pinned"
	// MetricBusy is how many of the host's processors were busy on average, the
	// guest's included.
	MetricBusy = "busy"
	// MetricSteal is the time that the bound processors were kept from the guest,
	// in percent.
	MetricSteal = "steal"
	// MetricFrequency is a processor's in MHz: label at has least or most.
	MetricFrequency = "frequency"
	LabelFrom       = "from"
)

// pinned is a guest whose processors are bound to processors of the host.
type pinned struct {
	threads, cpus []int
	start, end    hostReading
	// least and most are frequencies in MHz, 0 where the host shows none.
	least, most float64
}

// hostReading is what the host counts, all in seconds.
type hostReading struct {
	when time.Time
	// busy is the time of all processors together, stolen that of the bound ones:
	// another task of the host ran on them, or the host's own host took them.
	busy, stolen float64
}

// pin binds each of the guest's processors to one of the host's: the last ones
// that the harness may use, because the first takes most of the interrupts.
func (g *guest) pin() (*pinned, error) {
	m, err := g.qmp()
	if err != nil {
		return nil, err
	}
	p := &pinned{}
	if p.threads, err = m.vcpuThreads(); err != nil {
		return nil, err
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("which processors may be used: %w", err)
	}
	if len(p.threads) > allowed.Count() {
		return nil, fmt.Errorf("the guest has %d processors, and only %d of the host's may be used: its times would mean nothing", len(p.threads), allowed.Count())
	}
	cpu := len(allowed) * 64
	for _, thread := range p.threads {
		for cpu--; !allowed.IsSet(cpu); cpu-- {
		}
		var only unix.CPUSet
		only.Set(cpu)
		if err := unix.SchedSetaffinity(thread, &only); err != nil {
			return nil, fmt.Errorf("binding a processor of the guest to the host's processor %d: %w", cpu, err)
		}
		p.cpus = append(p.cpus, cpu)
	}
	p.start, err = p.read()
	return p, err
}

// update takes what the host counts now. It does nothing once QEMU has ended.
func (p *pinned) update() {
	now, err := p.read()
	if err != nil {
		return
	}
	p.end = now
	for _, cpu := range p.cpus {
		if mhz := frequency(cpu); mhz > 0 {
			p.most = max(p.most, mhz)
			if p.least == 0 || mhz < p.least {
				p.least = mhz
			}
		}
	}
}

// read reads the host's counters.
func (p *pinned) read() (hostReading, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return hostReading{}, err
	}
	r := hostReading{when: time.Now()}
	total, err := cpuTimes(string(stat), "cpu")
	if err != nil {
		return r, err
	}
	r.busy = total.busy
	for i, thread := range p.threads {
		times, err := cpuTimes(string(stat), fmt.Sprintf("cpu%d", p.cpus[i]))
		if err != nil {
			return r, err
		}
		// Documentation/scheduler/sched-stats.rst: the second number is the time
		// spent waiting for the processor, in nanoseconds.
		path := filepath.Join("/proc", strconv.Itoa(thread), "schedstat")
		text, err := os.ReadFile(path)
		if err != nil {
			return r, err
		}
		var ran, waited float64
		if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
			return r, fmt.Errorf("%s: %w", path, err)
		}
		r.stolen += times.steal + waited/1e9
	}
	return r, nil
}

// metrics says how undisturbed the guest was between pin and the last update.
func (p *pinned) metrics() []event.Metric {
	host := func(name string, value float64, unit string, more ...string) event.Metric {
		labels := map[string]string{LabelFrom: "host"}
		if len(more) == 2 {
			labels[more[0]] = more[1]
		}
		return event.Metric{Name: name, Value: value, Unit: unit, Labels: labels}
	}
	var all []event.Metric
	for i, cpu := range p.cpus {
		all = append(all, host(MetricPinned, float64(cpu), "cpu", "vcpu", strconv.Itoa(i)))
	}
	if elapsed := p.end.when.Sub(p.start.when).Seconds(); elapsed > 0 {
		all = append(all,
			host(MetricBusy, (p.end.busy-p.start.busy)/elapsed, "cpus"),
			host(MetricSteal, 100*(p.end.stolen-p.start.stolen)/elapsed/float64(len(p.cpus)), "%"))
	}
	if p.least > 0 {
		all = append(all, host(MetricFrequency, p.least, "MHz", "at", "least"), host(MetricFrequency, p.most, "MHz", "at", "most"))
	}
	return all
}

// cpuTime is a line of /proc/stat (proc(5)), in seconds.
type cpuTime struct{ busy, steal float64 }

// cpuTimes finds the line of a processor, or of all with the name cpu.
func cpuTimes(stat, name string) (cpuTime, error) {
	// userHZ is the unit of /proc/stat, the same on every x86 kernel.
	const userHZ = 100
	line, ok := field(stat, name+" ")
	if !ok {
		return cpuTime{}, fmt.Errorf("/proc/stat has no %s", name)
	}
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	if _, err := fmt.Sscan(line, &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return cpuTime{}, fmt.Errorf("/proc/stat: %s %s: %w", name, line, err)
	}
	return cpuTime{busy: (user + nice + system + irq + softirq + steal) / userHZ, steal: steal / userHZ}, nil
}

// frequency is a processor's in MHz, as /proc/cpuinfo has it: measured where the
// processor can (arch/x86/kernel/cpu/aperfmperf.c). It is 0 where none is shown.
func frequency(cpu int) float64 {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		number, _ := field(block, "processor")
		if strings.TrimLeft(number, "\t :") != strconv.Itoa(cpu) {
			continue
		}
		value, _ := field(block, "cpu MHz")
		mhz, _ := strconv.ParseFloat(strings.TrimLeft(value, "\t :"), 64)
		return mhz
	}
	return 0
}
