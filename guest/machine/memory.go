//go:build linux

package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// DropSlab asks every shrinker of the kernel to free what it can
// (vm.drop_caches=2).
func DropSlab() error { return SetSysctl("vm/drop_caches", "2") }

// SetSysctl sets a parameter below /proc/sys.
func SetSysctl(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }

// FreeMemory is MemFree of /proc/meminfo, in bytes.
func FreeMemory() (int, error) {
	kB, err := numberIn("/proc/meminfo", "MemFree:")
	return kB << 10, err
}

// numberIn reads the number behind the name in a file with one on each line.
func numberIn(path, name string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) >= 2 && words[0] == name {
			return strconv.Atoi(words[1])
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// SlabObjects counts the objects of a slab cache that are in use. The count is
// exact while nobody allocates from the cache: writing to "shrink" first takes
// the slabs of every CPU back, whose free objects SLUB counts as used, and
// KASAN's quarantine of freed ones with them (kmem_cache_shrink,
// show_slab_objects). The cache must not be merged (boot with slab_nomerge).
func SlabObjects(cache string) (int, error) {
	dir := "/sys/kernel/slab/" + cache
	if err := os.WriteFile(dir+"/shrink", []byte("1"), 0); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(dir + "/objects")
	if err != nil {
		return 0, err
	}
	total, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ") // then per NUMA node
	n, err := strconv.Atoi(total)
	if err != nil {
		return 0, fmt.Errorf("%s/objects: %w", dir, err)
	}
	return n, nil
}

// Slab is what a slab cache holds.
type Slab struct {
	// Active counts the objects in use; SLUB counts with them those that are free
	// on a slab that a CPU keeps for itself.
	Active int
	// Bytes are all pages of the cache.
	Bytes int
}

// SlabInfo reads a line of /proc/slabinfo (slab(5)). The cache must not be merged
// (boot with slab_nomerge).
func SlabInfo(cache string) (Slab, error) {
	const path = "/proc/slabinfo"
	b, err := os.ReadFile(path)
	if err != nil {
		return Slab{}, err
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, cache+" ")
		if !ok {
			continue
		}
		var s Slab
		var all, size, perSlab, pages, activeSlabs, slabs int
		// <active> <all> <size> <per slab> <pages per slab> : tunables 0 0 0 : slabdata <active> <slabs> <shared>
		objects, tail, _ := strings.Cut(rest, ": tunables")
		_, data, _ := strings.Cut(tail, ": slabdata")
		if _, err := fmt.Sscan(objects, &s.Active, &all, &size, &perSlab, &pages); err != nil {
			return Slab{}, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		if _, err := fmt.Sscan(data, &activeSlabs, &slabs); err != nil {
			return Slab{}, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		s.Bytes = slabs * pages * os.Getpagesize()
		return s, nil
	}
	return Slab{}, fmt.Errorf("%s has no %s (boot with slab_nomerge)", path, cache)
}
