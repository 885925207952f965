package alloccache

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const fdinfo = `pos:	0
flags:	02000002
mnt_id:	13
SqThread:	-1
UserFiles:	0
UserBufs:	0
PollList:
AllocCache:
  cpu0: irq=0, nr_free=257, nr_avail=43
  cpu0: irq=1, nr_free=0, nr_avail=0
  cpu1: irq=0, nr_free=0, nr_avail=256
  cpu1: irq=1, nr_free=0, nr_avail=-1
`

func TestParse(t *testing.T) {
	got, err := Parse(fdinfo)
	if err != nil {
		t.Fatalf("Parse(fdinfo) = %v", err)
	}
	want := []Row{{0, 0, 257, 43}, {0, 1, 0, 0}, {1, 0, 0, 256}, {1, 1, 0, -1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse(fdinfo) (-want +got):\n%s", diff)
	}
}

func TestParseRejects(t *testing.T) {
	const head = "PollList:\nAllocCache:\n"
	for _, tt := range []struct{ name, text string }{
		{"no rows", head},
		{"no final newline", head + "  cpu0: irq=0, nr_free=0, nr_avail=0"},
		{"section cut short", head + "  cpu0: irq=0, nr_fr"},
		{"trailing line", head + "  cpu0: irq=0, nr_free=0, nr_avail=0\nPollList:\n"},
		{"second section", head + "  cpu0: irq=0, nr_free=0, nr_avail=0\nAllocCache:\n  cpu0: irq=0, nr_free=0, nr_avail=0\n"},
		{"blank line", head + "\n  cpu0: irq=0, nr_free=0, nr_avail=0\n"},
		{"one space", head + " cpu0: irq=0, nr_free=0, nr_avail=0\n"},
		{"tab", head + "\tcpu0: irq=0, nr_free=0, nr_avail=0\n"},
		{"double space inside", head + "  cpu0:  irq=0, nr_free=0, nr_avail=0\n"},
		{"trailing space", head + "  cpu0: irq=0, nr_free=0, nr_avail=0 \n"},
		{"carriage return", head + "  cpu0: irq=0, nr_free=0, nr_avail=0\r\n"},
		{"swapped counters", head + "  cpu0: irq=0, nr_avail=0, nr_free=0\n"},
		{"missing comma", head + "  cpu0: irq=0 nr_free=0, nr_avail=0\n"},
		{"plus sign", head + "  cpu0: irq=0, nr_free=+1, nr_avail=0\n"},
		{"leading zero", head + "  cpu0: irq=0, nr_free=01, nr_avail=0\n"},
		{"minus zero", head + "  cpu0: irq=0, nr_free=-0, nr_avail=0\n"},
		{"hexadecimal", head + "  cpu0: irq=0, nr_free=0x1, nr_avail=0\n"},
		{"beyond int", head + "  cpu0: irq=0, nr_free=0, nr_avail=4294967295\n"},
		{"third class", head + "  cpu0: irq=2, nr_free=0, nr_avail=0\n"},
		{"negative cpu", head + "  cpu-1: irq=0, nr_free=0, nr_avail=0\n"},
		{"no number", head + "  cpu: irq=0, nr_free=0, nr_avail=0\n"},
		{"extra field", head + "  cpu0: irq=0, nr_free=0, nr_avail=0, nr_max=1\n"},
	} {
		rows, err := Parse(tt.text)
		if err == nil || errors.Is(err, ErrAbsent) {
			t.Errorf("%s: Parse(%q) = %v, %v; want a format error", tt.name, tt.text, rows, err)
		}
	}
}

func TestParseAbsent(t *testing.T) {
	for _, text := range []string{
		"",
		"pos:\t0\nPollList:\n",
		"  AllocCache:\n  cpu0: irq=0, nr_free=0, nr_avail=0\n",
		"AllocCache: x\n",
		"NotAllocCache:\n",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrAbsent) {
			t.Errorf("Parse(%q) = %v; want %v", text, err, ErrAbsent)
		}
	}
}

// FuzzParse checks that what is accepted is exactly what would be printed.
func FuzzParse(f *testing.F) {
	f.Add(fdinfo)
	f.Add("AllocCache:\n  cpu0: irq=0, nr_free=0, nr_avail=0\n")
	f.Add("AllocCache:\n  cpu0: irq=0, nr_free=2147483648, nr_avail=0\n")
	f.Add("AllocCache:\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := Parse(text)
		if err != nil {
			return
		}
		printed := "AllocCache:\n"
		for _, r := range rows {
			printed += r.String() + "\n"
		}
		if !strings.HasSuffix("\n"+text, "\n"+printed) {
			t.Errorf("Parse(%q) = %v, which prints as %q", text, rows, printed)
		}
	})
}

func TestAfter(t *testing.T) {
	for _, tt := range []struct {
		before Row
		n      int
		want   Row
	}{
		{Row{Avail: 0}, 0, Row{Avail: 0}},
		{Row{Avail: 0}, 1, Row{Avail: 1}},
		{Row{Avail: 8}, 8, Row{Avail: 8}},
		{Row{Avail: 8}, 3, Row{Avail: 8}},
		{Row{Avail: 8}, 20, Row{Avail: 20}},
		{Row{Avail: 0}, 256, Row{Avail: 256}},
		{Row{Avail: 0}, 257, Row{Free: 257, Avail: 0}},
		{Row{Avail: 0}, 300, Row{Free: 257, Avail: 43}},
		{Row{Free: 257, Avail: 43}, 300, Row{Free: 514, Avail: 43}},
		{Row{Avail: 0}, 514, Row{Free: 514, Avail: 0}},
	} {
		if got := tt.before.After(tt.n); got != tt.want {
			t.Errorf("%+v.After(%d) = %+v; want %+v", tt.before, tt.n, got, tt.want)
		}
	}
}

func TestNoneOn(t *testing.T) {
	rows := []Row{{CPU: 0, Avail: 3}, {CPU: 1}, {CPU: 1, IRQ: 1}, {CPU: 2, IRQ: 1, Free: 1, Avail: -1}}
	for cpu, want := range []string{
		"CPU 0 is offline, but has   cpu0: irq=0, nr_free=0, nr_avail=3", "",
		"CPU 2 is offline, but has   cpu2: irq=1, nr_free=1, nr_avail=-1", "",
	} {
		got := ""
		if err := NoneOn(rows, cpu); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("NoneOn(%v, %d) = %q; want %q", rows, cpu, got, want)
		}
	}
}
