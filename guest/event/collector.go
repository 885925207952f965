package event

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Collector assembles the events of one program, in the order in which they
// came. Every error it returns means that the report cannot be trusted, which
// is the harness's trouble and never a pass.
type Collector struct {
	program string
	next    int
	seen    map[string]bool

	// Started and Ended are the first and the last event, nil before they
	// came. An end that miscounts is not kept.
	Started, Ended *Event
	// Tested says that a user's test came to its end.
	Tested  bool
	Checks  []Check
	Metrics []Metric
	Logs    []string
	// Files are those that came back, by name; see MaxFiles.
	Files map[string][]byte

	fileBytes int
}

// NewCollector returns a collector for a run of the named program.
func NewCollector(program string) *Collector {
	return &Collector{program: program, seen: map[string]bool{}}
}

// maxEvents bounds what a guest can make the host remember.
const maxEvents = 100_000

// Add takes the next event. An event that is refused leaves the collector as
// it was.
func (c *Collector) Add(e Event) error {
	if c.Ended != nil {
		return fmt.Errorf("event %d (%s) came after the end", e.Seq, e.Kind)
	}
	if e.Seq > c.next {
		return fmt.Errorf("events %d to %d were lost (event %d came instead)", c.next, e.Seq-1, e.Seq)
	}
	if e.Seq < c.next {
		return fmt.Errorf("event %d came twice or out of order (event %d was due)", e.Seq, c.next)
	}
	if e.Seq >= maxEvents {
		return fmt.Errorf("more than %d events: a program gone wild", maxEvents)
	}
	if e.Kind != KindStart && c.Started == nil {
		return fmt.Errorf("event %d (%s) came before the start", e.Seq, e.Kind)
	}
	if err := c.take(e); err != nil {
		return fmt.Errorf("event %d: %w", e.Seq, err)
	}
	c.next++
	return nil
}

func (c *Collector) take(e Event) error {
	switch e.Kind {
	case KindStart:
		return c.start(e)
	case KindCheck:
		return c.check(e.Check)
	case KindMetric:
		return c.metric(e.Metric)
	case KindFile:
		return c.file(e.File)
	case KindTested:
		c.Tested = true
		return nil
	case KindLog:
		c.Logs = append(c.Logs, e.Text)
		return nil
	case KindEnd:
		return c.end(e)
	}
	return fmt.Errorf("unknown kind %q", e.Kind)
}

func (c *Collector) start(e Event) error {
	if c.Started != nil {
		return errors.New("the program started twice")
	}
	if e.Program != c.program {
		return fmt.Errorf("program %q started where %q was expected", e.Program, c.program)
	}
	c.Started = &e
	return nil
}

func (c *Collector) check(check *Check) error {
	if check == nil || check.Name == "" {
		return errors.New("a check without a name")
	}
	if !check.Verdict.Known() {
		return fmt.Errorf("check %s has the unknown verdict %q", check.Name, check.Verdict)
	}
	if c.seen[check.Name] {
		return fmt.Errorf("check %s was reported twice", check.Name)
	}
	c.seen[check.Name] = true
	c.Checks = append(c.Checks, *check)
	return nil
}

func (c *Collector) metric(m *Metric) error {
	if m == nil || m.Name == "" {
		return errors.New("a metric without a name")
	}
	c.Metrics = append(c.Metrics, *m)
	return nil
}

func (c *Collector) file(part *FilePart) error {
	if part == nil || !filepath.IsLocal(part.Name) || len(part.Name) > MaxFileName || strings.ContainsRune(part.Name, 0) {
		return errors.New("a file without a name, or with one that leads elsewhere")
	}
	if c.fileBytes += len(part.Data); c.fileBytes > MaxFiles {
		return fmt.Errorf("more than %d MiB of files", MaxFiles>>20)
	}
	if c.Files == nil {
		c.Files = map[string][]byte{}
	}
	c.Files[part.Name] = append(c.Files[part.Name], part.Data...)
	return nil
}

func (c *Collector) end(e Event) error {
	if e.Program != c.program {
		return fmt.Errorf("program %q ended where %q was expected", e.Program, c.program)
	}
	if e.Count != c.next {
		return fmt.Errorf("the end counts %d events before it, %d came", e.Count, c.next)
	}
	c.Ended = &e
	return nil
}

// Finish says whether the report is whole: started, and ended with the right
// count.
func (c *Collector) Finish() error {
	if c.Started == nil {
		return fmt.Errorf("program %s never reported its start", c.program)
	}
	if c.Ended == nil {
		return fmt.Errorf("program %s never reported its end (%d events came)", c.program, c.next)
	}
	return nil
}
