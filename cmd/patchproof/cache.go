package main

import (
	"context"
	"errors"
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

type cacheExportCmd struct {
	flags
	To   string   `default:"." placeholder:"FOLDER" help:"Where the files are written."`
	All  bool     `help:"Write all kernels that this patchproof built."`
	Keys []string `arg:"" optional:"" name:"key" help:"Kernels: the beginning of their keys, as cache ls shows them."`
}

// Run writes a file for each kernel and prints the paths.
func (c cacheExportCmd) Run(ctx context.Context, t *terminal) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	if c.All == (len(c.Keys) > 0) {
		return errors.New("name the kernels to export by their keys, or say --all")
	}
	keys, err := store.Match(c.Keys)
	if err != nil {
		return err
	}
	written := 0
	for _, key := range keys {
		path, err := store.Export(ctx, key, c.To)
		if c.All && errors.Is(err, kernel.ErrOtherKernel) {
			t.errorf("note: left out: %v\n", err)
			continue
		}
		if err != nil {
			return err
		}
		written++
		t.printf("%s\n", path)
	}
	if written == 0 {
		return fmt.Errorf("%s has no kernel to export: make build makes some", store.Dir)
	}
	return nil
}

type cacheImportCmd struct {
	flags
	Files []string `arg:"" name:"file" help:"Files that cache export wrote."`
}

// Run takes each file that is what it says, and ends with 2 if one is not.
func (c cacheImportCmd) Run(ctx context.Context, t *terminal) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	var refused error
	for _, file := range c.Files {
		key, had, err := store.Import(ctx, file)
		switch {
		case err != nil:
			refused = errors.Join(refused, err)
		case had:
			t.printf("%.12s was there\n", key)
		default:
			t.printf("%.12s\n", key)
		}
	}
	return refused
}
