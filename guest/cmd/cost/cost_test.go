//go:build linux

package main

import "testing"

// The costs are measured ones, but for the last two.
func TestFlat(t *testing.T) {
	for _, test := range []struct {
		kernel     string
		fits, cost float64
		n          uint32
		ok         bool
	}{
		{"no cache", 615.1, 615.8, 257, true},
		{"no cache", 615.1, 624.3, 1024, true},
		{"all from the slab when one does not fit", 496.1, 609.0, 257, false},
		{"all from the slab when one does not fit", 496.1, 592.0, 300, false},
		{"those from the slab that do not fit", 476.1, 551.9, 512, true},
		{"a cache that saves nothing", 615.1, 660, 257, false},
		{"a cache that is of no use beyond its size", 476.1, 620.2, 512, false},
	} {
		if err := flat(test.fits, test.cost, test.n); (err == nil) != test.ok {
			t.Errorf("%s: flat(%g, %g, %d) = %v; want passed %t", test.kernel, test.fits, test.cost, test.n, err, test.ok)
		}
	}
}
