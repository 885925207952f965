//go:build linux

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

const (
	// defaultRounds is how often a CPU goes and comes back, when the boot option
	// roundsOption does not say. In the first half of the rounds the kernel is asked
	// to shrink all the while; in every other round the load pauses while the CPU goes
	// and comes, so that the other CPUs' caches can be compared.
	defaultRounds = 16
	roundsOption  = "patchproof.rounds"
	// limit is when the rounds together count as a hang; they take three to four
	// seconds on emulated CPUs that are not shared.
	limit = 20 * time.Second
	// manyNops are kept in flight at once, so that a cache's list of available
	// requests overflows and both counters are above 0; of fewNops it keeps all.
	manyNops = 300
	fewNops  = 200
	// reads go to the disk in one chain.
	reads = 16
	// loadBatch requests at a time are the load, with a pause in between: three
	// emulated CPUs may have to share one real one. On the CPU that goes there are
	// fewer, as what is in flight then ends up in another CPU's cache.
	loadBatch  = 32
	leaveBatch = 8
	loadPause  = 200 * time.Microsecond
)

// The checks. Each is one over all rounds, and names the rounds it failed in.
const (
	checkFill     = "fill"              // NOPs and reads on the CPU fill its caches
	checkLeave    = "left-in-flight"    // requests are in flight that were taken from them
	checkOffline  = "offline"           // the CPU goes offline
	checkRows     = "rows-zero"         // its rows are 0/0 then, and stay so; without rows it keeps nothing
	checkOthers   = "others-kept"       // going and coming leave the other CPUs' rows as they are
	checkUnder    = "complete-on-load"  // some of the requests complete, with the load on
	checkAfter    = "complete-after"    // the others complete
	checkFreed    = "freed-elsewhere"   // they are in the cache of the CPU they completed on
	checkShrink   = "shrink"            // the shrinker leaves available requests alone
	checkOnline   = "online"            // the CPU comes back
	checkAgain    = "run-again"         // NOPs and reads work on it as on the first day
	checkLoadNop  = "load-nop"          // NOPs on another CPU all the while
	checkLoadNVMe = "load-nvme"         // disk reads on another CPU all the while
	checkLoadGone = "load-leaving"      // both on the CPU itself, moving on when it goes
	checkObjects  = "objects"           // in the end every request of the slab is in a cache or a ring's own
	checkSection  = "section"           // the AllocCache section is there exactly when it should
	stageSetup    = "starting up"       // no check of its own
	stageStop     = "stopping the load" // no check of its own
)

func run(t *report.T) {
	m, err := prepare(t)
	if err != nil {
		t.Error(checkSection, err)
		return
	}
	t.Check(checkSection, m.sectionError)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.allRounds()
	}()
	select {
	case <-done:
	case <-time.After(machine.Patience(limit)):
		t.Hang("rounds", fmt.Sprintf("%s\n%s", m.where(machine.Patience(limit)), machine.StuckTasks()))
		m.report(t)
		return
	}
	t.Check("rounds", nil)
	m.report(t)
}

// hotplug runs the rounds and remembers what went wrong.
type hotplug struct {
	victims []int // the CPUs that can be taken offline
	all     []int
	watch   *uring.Ring // idle: only its fdinfo is read
	disk    int32
	page    []byte // where disk reads go; what they read does not matter
	cached  bool   // the kernel has the patch
	kept    int    // requests that each CPU may keep without a counter
	rounds  int    // how many there are
	t       *report.T

	sectionError error

	// load is held by who has a batch of load in flight, and locked by who wants
	// none.
	load sync.RWMutex

	mu     sync.Mutex
	stage  string
	round  int
	since  time.Duration            // uptime at which the stage began
	spent  map[string]time.Duration // per stage
	made   map[string]int           // how often each check was made
	errors map[string][]error
}

// rounds is the number of rounds to make.
func rounds() (int, error) {
	value, ok := machine.BootOption(roundsOption)
	if !ok {
		return defaultRounds, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("boot option %s=%s; want a number above 0", roundsOption, value)
	}
	return n, nil
}

func prepare(t *report.T) (*hotplug, error) {
	m := &hotplug{t: t, stage: stageSetup, since: machine.Uptime(), spent: map[string]time.Duration{}, made: map[string]int{}, errors: map[string][]error{}}
	var err error
	if m.rounds, err = rounds(); err != nil {
		return nil, err
	}
	if m.all, err = machine.OnlineCPUs(); err != nil {
		return nil, err
	}
	for _, cpu := range m.all {
		if machine.CanGoOffline(cpu) {
			m.victims = append(m.victims, cpu)
		}
	}
	if len(m.victims) == 0 || len(m.all) < 3 {
		return nil, fmt.Errorf("CPUs %v are online and %v can go offline; want 3 and at least 1", m.all, m.victims)
	}
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return nil, err
	}
	m.disk = int32(disk)
	if m.page, err = machine.Buffer(machine.Sector); err != nil {
		return nil, err
	}
	if m.watch, err = uring.New(1, uring.Params{}); err != nil {
		return nil, err
	}
	if m.kept, err = alloccache.Kept(); err != nil {
		return nil, err
	}
	has, known := t.Feature(alloccache.Feature)
	_, err = m.rows()
	m.cached = err == nil
	switch {
	case errors.Is(err, alloccache.ErrAbsent) && !has:
	case err != nil:
		m.sectionError = err
	case known && !has:
		m.sectionError = errors.New("the kernel is declared to be without the patch, but has the section")
	}
	return m, nil
}

// report makes one check of every name, in the order in which a round makes
// them.
func (m *hotplug) report(t *report.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counters := []string{checkRows, checkOthers, checkFreed, checkShrink}
	for _, name := range []string{checkFill, checkLeave, checkOffline, checkRows, checkOthers, checkUnder, checkAfter, checkFreed, checkShrink,
		checkOnline, checkAgain, checkLoadNop, checkLoadNVMe, checkLoadGone, checkObjects} {
		switch {
		case !m.cached && slices.Contains(counters, name) && !(m.kept > 0 && name == checkRows):
			t.Skip(name, alloccache.Feature, "the kernel has no AllocCache section")
		case m.made[name] == 0:
			t.Check(name, errors.New("never reached"))
		default:
			t.Check(name, errors.Join(m.errors[name]...))
		}
	}
	t.Metric("rounds", float64(m.made[checkAgain]), "count", nil)
	for _, stage := range slices.Sorted(maps.Keys(m.spent)) {
		t.Metric("stage", m.spent[stage].Seconds(), "s", map[string]string{"stage": stage})
	}
}

// note remembers the outcome of a check in the current round and returns
// whether it was good.
func (m *hotplug) note(check string, err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made[check]++
	if err != nil {
		m.errors[check] = append(m.errors[check], fmt.Errorf("round %d: %w", m.round, err))
	}
	return err == nil
}

// at remembers where the rounds are, for a hang's report, and how long they
// were at each stage.
func (m *hotplug) at(round int, stage string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := machine.Uptime()
	m.spent[m.stage] += now - m.since
	m.since = now
	m.round, m.stage = round, stage
}

func (m *hotplug) where(after time.Duration) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("after %v still in round %d of %d, at %s", after, m.round, m.rounds, m.stage)
}

// allRounds lets the CPUs go and come back in turn. A CPU that does not come
// back is left out from then on.
func (m *hotplug) allRounds() {
	for round := 1; round <= m.rounds && len(m.victims) > 0; round++ {
		cpu := m.victims[round%len(m.victims)]
		if !m.oneRound(round, cpu) {
			m.victims = slices.DeleteFunc(m.victims, func(v int) bool { return v == cpu })
		}
	}
	m.at(m.rounds, checkObjects)
	// Rings are torn down after they were closed.
	m.note(checkObjects, machine.Await(limit/8, m.accounted))
}

// accounted checks that no request was lost with a CPU's caches: with nothing in
// flight the slab has those that the caches count and the idle ring's.
func (m *hotplug) accounted() error {
	var rows []alloccache.Row
	var err error
	if m.cached {
		if rows, err = m.rows(); err != nil {
			return err
		}
	}
	objects, err := alloccache.InUse()
	if err != nil {
		return err
	}
	own, err := alloccache.IdleRequests()
	if err != nil {
		return err
	}
	if want := own + alloccache.Total(rows, 0) + alloccache.Total(rows, 1); objects != want {
		return fmt.Errorf("the slab %s has %d objects in use; want %d: %d for the idle ring and those of the cache:\n%s", alloccache.Slab, objects, want, own, alloccache.Format(rows))
	}
	return nil
}

// oneRound returns whether the CPU is online again at its end.
func (m *hotplug) oneRound(round, cpu int) bool {
	others := slices.DeleteFunc(slices.Clone(m.all), func(other int) bool { return other == cpu })
	shrinking, paused := 2*round <= m.rounds, round%2 == 0
	nops := uint32(manyNops)
	if shrinking {
		nops = fewNops
	}
	m.at(round, checkFill)
	step := 0
	show := func(at string) {
		m.show(round, cpu, step, at)
		step++
	}
	show("before")
	stop := m.startLoad(others)
	defer func() {
		m.at(round, stageStop)
		stop()
	}()
	m.note(checkFill, m.fill(cpu, nops, nil))
	show("filled")

	m.at(round, checkLeave)
	l, err := m.leave(cpu)
	if !m.note(checkLeave, err) {
		return true
	}
	defer l.end()
	stopLeaving := m.startLeaving(cpu)
	if shrinking && m.roomToShrink() {
		defer m.startShrinking()()
	}
	m.at(round, checkOffline)
	offline := m.unmoved(others, paused, func() error { return machine.SetOnline(cpu, false) })
	if !m.note(checkOffline, offline) {
		stopLeaving()
		return true
	}
	show("offline")
	if m.cached {
		m.at(round, checkRows)
		m.note(checkRows, m.stayZero(cpu))
	}
	m.at(round, checkUnder)
	m.note(checkUnder, l.thread.run(l.underLoad))
	m.at(round, checkAfter)
	m.load.Lock()
	m.completeElsewhere(l, others[0], shrinking)
	m.load.Unlock()
	stopLeaving()
	show("completed")
	m.at(round, checkOnline)
	if !m.note(checkOnline, m.unmoved(others, paused, func() error { return machine.SetOnline(cpu, true) })) {
		return false
	}
	show("online")
	m.at(round, checkAgain)
	fresh := alloccache.Row{CPU: cpu}
	m.note(checkAgain, m.fill(cpu, nops, &fresh))
	show("refilled")
	return true
}

// show reports the counters of the first round, in which the kernel is asked to
// shrink all the while, and of the last.
func (m *hotplug) show(round, cpu, step int, at string) {
	if !m.cached || round != 1 && round != m.rounds {
		return
	}
	// That they can be read is what the checks are for.
	if rows, err := m.rows(); err == nil {
		alloccache.Report(m.t, fmt.Sprintf("CPU %d going and coming back, round %d", cpu, round), step, at, rows)
	}
}

// rows reads the AllocCache section, which has all CPUs, also those that are
// offline.
func (m *hotplug) rows() ([]alloccache.Row, error) {
	rows, err := alloccache.Read(m.watch.FD)
	if want := alloccache.Classes * len(m.all); err == nil && len(rows) != want {
		err = fmt.Errorf("the AllocCache section has %d rows; want %d, also for CPUs that are offline:\n%s", len(rows), want, alloccache.Format(rows))
	}
	return rows, err
}

// row reads the row of a CPU and a class.
func (m *hotplug) row(cpu, irq int) (alloccache.Row, error) {
	rows, err := m.rows()
	if err != nil {
		return alloccache.Row{}, err
	}
	for _, r := range rows {
		if r.CPU == cpu && r.IRQ == irq {
			return r, nil
		}
	}
	return alloccache.Row{}, fmt.Errorf("no row for cpu%d irq=%d", cpu, irq)
}

// fill runs a chain of NOPs and a chain of disk reads on the CPU. With the
// patch that moves the CPU's irq=0 row as alloccache predicts, from before (nil:
// from what the row says), and leaves something in its irq=1 row, as the disk
// has an interrupt per CPU.
func (m *hotplug) fill(cpu int, nops uint32, before *alloccache.Row) error {
	if m.cached && before == nil {
		row, err := m.row(cpu, 0)
		if err != nil {
			return err
		}
		before = &row
	}
	err := machine.OnCPU(cpu, func() error {
		return uring.With(nops, uring.Params{}, func(r *uring.Ring) error {
			return errors.Join(nop(r, nops, uring.SQELink), m.read(r, reads, uring.SQELink))
		})
	})
	if err != nil {
		return fmt.Errorf("on CPU %d: %w", cpu, err)
	}
	if !m.cached {
		return nil
	}
	got, err := m.row(cpu, 0)
	if err != nil {
		return err
	}
	if want := before.After(int(nops)); got != want {
		return fmt.Errorf("after %d NOPs in flight at once on CPU %d:\n%s\nwant:\n%s\nbefore:\n%s", nops, cpu, got, want, *before)
	}
	if got, err = m.row(cpu, 1); err != nil {
		return err
	}
	if got.Avail+got.Free == 0 {
		return fmt.Errorf("%d disk reads on CPU %d left nothing in its cache: %s", reads, cpu, got)
	}
	return nil
}

// nop runs n NOPs.
func nop(r *uring.Ring, n uint32, flags uint8) error {
	return r.Run(n, flags, uring.Nop, 0)
}

// read runs n disk reads, each of another place.
func (m *hotplug) read(r *uring.Ring, n uint32, flags uint8) error {
	return r.Run(n, flags, func(sqe *uring.SQE) {
		sqe.Opcode, sqe.FD = uring.OpRead, m.disk
		sqe.Addr, sqe.Len = uring.Address(m.page), machine.Sector
		sqe.Off = sqe.UserData * 8 * machine.Sector
	}, machine.Sector)
}

// stayZero checks an offline CPU's rows now and after the load has gone on for
// a while.
func (m *hotplug) stayZero(cpu int) error {
	for range 2 {
		rows, err := m.rows()
		if err != nil {
			return err
		}
		if err := alloccache.NoneOn(rows, cpu); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// startLoad runs NOPs on one CPU and disk reads on another until stop is called,
// which returns when both have ended.
func (m *hotplug) startLoad(others []int) (stop func()) {
	stopNops := m.loop(checkLoadNop, others[0], func(r *uring.Ring) error { return nop(r, loadBatch, 0) })
	stopReads := m.loop(checkLoadNVMe, others[1], func(r *uring.Ring) error { return m.read(r, loadBatch, 0) })
	return func() {
		stopNops()
		stopReads()
	}
}

// startLeaving runs NOPs and disk reads on the CPU that is to go. The thread is
// then moved to another CPU, with what it has in flight.
func (m *hotplug) startLeaving(cpu int) (stop func()) {
	return m.loop(checkLoadGone, cpu, func(r *uring.Ring) error {
		return errors.Join(nop(r, leaveBatch, 0), m.read(r, leaveBatch, 0))
	})
}

// loop runs once over and over, on a thread bound to the CPU, until stop is
// called, which returns when it has ended. It is running when loop returns.
func (m *hotplug) loop(check string, cpu int, once func(*uring.Ring) error) (stop func()) {
	quit, running := make(chan struct{}), make(chan struct{})
	start := sync.OnceFunc(func() { close(running) })
	var loop sync.WaitGroup
	loop.Go(func() {
		err := machine.OnCPU(cpu, func() error {
			return uring.With(loadBatch, uring.Params{}, func(r *uring.Ring) error {
				for {
					m.load.RLock()
					err := once(r)
					m.load.RUnlock()
					start()
					if err != nil {
						return fmt.Errorf("on CPU %d: %w", cpu, err)
					}
					select {
					case <-quit:
						return nil
					case <-time.After(loadPause):
					}
				}
			})
		})
		start() // also when it could not
		m.note(check, err)
	})
	<-running
	return func() {
		close(quit)
		loop.Wait()
	}
}
