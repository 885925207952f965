//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// savePoint is where the partition of -save is mounted.
const savePoint = "/tmp/patchproof-save"

// mount mounts the partition of -save and turns -out into a path on it.
func (o *options) mount() (unmount func() error, err error) {
	if o.save == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(savePoint, 0o700); err != nil {
		return nil, err
	}
	for _, kind := range []string{"ext4", "vfat"} {
		mountErr := unix.Mount(o.save, savePoint, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if mountErr == nil {
			o.out = filepath.Join(savePoint, filepath.Base(o.out))
			return func() error { return unix.Unmount(savePoint, 0) }, nil
		}
		err = errors.Join(err, fmt.Errorf("mount %s as %s: %w", o.save, kind, mountErr))
	}
	return nil, err
}

// file is the collection on its way to the disk.
type file struct {
	path       string
	collection event.Collection
	// port says that it is a device, to which everything is written once.
	port bool
}

// open begins a boot in a file, after those that are in it.
func open(path string, boot event.Boot) (*file, error) {
	f := &file{path: path, collection: event.Collection{Schema: event.CollectionSchema}}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeCharDevice != 0:
		f.port = true
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("-out=%s: want a file or a serial port; -save=%s mounts a partition", path, path)
	default:
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &f.collection); err != nil || f.collection.Schema != event.CollectionSchema {
			return nil, fmt.Errorf("-out=%s: it holds something else and is left as it is; choose another name", path)
		}
	}
	f.collection.Boots = append(f.collection.Boots, boot)
	return f, f.write(f.port)
}

func (f *file) boot() *event.Boot { return &f.collection.Boots[len(f.collection.Boots)-1] }

// begin marks a program as in flight.
func (f *file) begin(program string) error {
	f.boot().Running = program
	return f.write(f.port)
}

// end records a program that has ended.
func (f *file) end(r event.Ran) error {
	if r.Checks == nil {
		r.Checks = []event.Check{}
	}
	if r.Metrics == nil {
		r.Metrics = []event.Metric{}
	}
	f.boot().Running = ""
	f.boot().Ran = append(f.boot().Ran, r)
	return f.write(f.port)
}

// finish records that all were run.
func (f *file) finish() error {
	f.boot().Finished = true
	return f.write(false)
}

// write brings the whole file to the disk, in one step: the machine may die at any
// moment. With later there is nothing to do yet.
func (f *file) write(later bool) error {
	if later {
		return nil
	}
	text, err := json.Marshal(f.collection)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if f.port {
		return os.WriteFile(f.path, text, 0)
	}
	fresh := f.path + ".new"
	if err := writeSynced(fresh, text); err != nil {
		return err
	}
	if err := os.Rename(fresh, f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
