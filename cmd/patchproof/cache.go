package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"patchproof/kernel"
)

func (f flags) store() (kernel.Store, error) {
	if folder := f.value("CACHE"); folder != "" {
		return kernel.Store{Dir: folder}, nil
	}
	dir, err := kernel.DefaultCache()
	return kernel.Store{Dir: dir}, err
}

type cacheLsCmd struct {
	flags
}

// Run lists kind, name, size and age of everything that can be made again.
func (c cacheLsCmd) Run(t *terminal) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	items, err := store.List()
	if err != nil {
		return err
	}
	t.printf("%s\n", store.Dir)
	t.items(items)
	return nil
}

type cacheGcCmd struct {
	flags
	Unused int `default:"30" placeholder:"DAYS" help:"Remove what was not used for so many days; 0 removes all."`
}

// Run removes and says what.
func (c cacheGcCmd) Run(t *terminal) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	if c.Unused < 0 {
		return fmt.Errorf("--unused=%d: want a number of days from 0", c.Unused)
	}
	items, err := store.GC(time.Duration(c.Unused) * 24 * time.Hour)
	t.items(items)
	if err != nil {
		return err
	}
	t.printf("%d removed from %s\n", len(items), store.Dir)
	return nil
}

// items prints a table of what lies in the cache.
func (t *terminal) items(items []kernel.Item) {
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, i := range items {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", i.Kind, i.Name, humanize.IBytes(uint64(i.Size)), humanize.Time(i.Used))
	}
	table.Flush()
}
