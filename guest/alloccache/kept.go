//go:build linux

package alloccache

import (
	"fmt"
	"strconv"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

// KeptFeature is what the line-up declares of a kernel whose cache shows no counters:
// request-cache=N says that each CPU keeps up to N freed requests, that the shrinkers
// get all of them, and that a CPU that is offline keeps none.
const KeptFeature = "request-cache"

// Kept is how many freed requests each CPU may keep without showing them; 0 where
// nobody declares that any are.
func Kept() (int, error) {
	value, ok := report.FeatureValue(KeptFeature)
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("the kernel is declared to have %s=%s: want a number of requests per CPU", KeptFeature, value)
	}
	return n, nil
}

// InUse counts the objects of the slab, without those that a cache keeps and does not
// show: the shrinkers empty such a cache first, and it may have kept no more than was
// declared. Lists with counters are left alone, and counted.
func InUse() (int, error) {
	objects, err := machine.SlabObjects(Slab)
	if err != nil {
		return 0, err
	}
	kept, err := Kept()
	if err != nil || kept == 0 {
		return objects, err
	}
	cpus, err := machine.OnlineCPUs()
	if err != nil {
		return 0, err
	}
	if err := machine.DropSlab(); err != nil {
		return 0, err
	}
	left, err := machine.SlabObjects(Slab)
	if err != nil {
		return 0, err
	}
	if most := kept * len(cpus); objects-left > most {
		return 0, fmt.Errorf("the shrinkers freed %d requests; the caches of %d CPUs may keep %d", objects-left, len(cpus), most)
	}
	return left, nil
}
