package counter

import "testing"

func TestAPI(t *testing.T) {
	for qemu, want := range map[string]int{"7.2.22": 1, "8.2.2": 1, "9.0.2": 2, "10.0.13": 2, "11.1.0-rc1": 2} {
		if got := api(qemu); got != want {
			t.Errorf("api(%s) = %d; want %d", qemu, got, want)
		}
	}
}
