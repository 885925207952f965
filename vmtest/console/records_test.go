package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What dmesg and journalctl write for programs is read like any log, and what programs
// wrote to the kernel's log is not the kernel's.
func TestReadTakesRecords(t *testing.T) {
	lines := []string{"BUG: kernel NULL pointer dereference, address: 0000000000000010", "Oops: 0000 [#1] SMP", "RIP: 0010:memcpy+0x1f/0x40", "Call Trace:", " quokka_read+0x1f/0x40"}
	dmesg := func(format string) string {
		var all []string
		for _, line := range lines {
			all = append(all, fmt.Sprintf(format, line))
		}
		return "{\n   \"dmesg\": [\n      {\n" + strings.Join(all, "      },{\n") + "      }\n   ]\n}\n"
	}
	journal := func(format string) string {
		var all string
		for _, line := range lines {
			all += fmt.Sprintf(format, line)
		}
		return all
	}
	const (
		plain   = "         \"pri\": 4,\n         \"time\":     12.345678,\n         \"msg\": %q\n"
		record  = `{"__CURSOR":"s=1;i=2","_TRANSPORT":"kernel","SYSLOG_FACILITY":"0","_SOURCE_MONOTONIC_TIMESTAMP":"12345678","MESSAGE":%q,"PRIORITY":"4"}` + "\n"
		bytes   = `{"MESSAGE":[66,85,71,58,32,111,117,116,32,111,102,32,114,101,97,99,104,255],"_TRANSPORT":"kernel"}` + "\n"
		verbose = "Sat 2026-11-28 10:15:02.123456 UTC [s=1;i=2;b=3;m=4;t=5;x=6]\n    _TRANSPORT=kernel\n    PRIORITY=4\n    MESSAGE=%s\n    _SOURCE_MONOTONIC_TIMESTAMP=12345678\n"
		export  = "__CURSOR=s=1;i=2\nMESSAGE=%s\n_TRANSPORT=kernel\nSYSLOG_FACILITY=0\n\n"
		title   = "BUG: kernel NULL pointer dereference in quokka_read"
	)
	tests := []struct {
		name, log string
		want      []string
	}{
		{"dmesg --json", dmesg(plain), []string{title}},
		{"dmesg --json --decode", dmesg(strings.Replace(plain, "\"pri\": 4", "\"fac\": \"kern\",\n \"pri\": \"warn\"", 1)), []string{title}},
		{"dmesg --json with the caller", dmesg(strings.Replace(plain, "\"msg\"", "\"caller\": \"T9\",\n \"msg\"", 1)), []string{title}},
		{"dmesg --json of a program", dmesg(strings.Replace(plain, "4", "12", 1)), nil},
		{"dmesg --json --decode of a program", dmesg(strings.Replace(plain, "\"pri\": 4", "\"fac\": \"user\",\n \"pri\": \"warn\"", 1)), nil},
		{"one that breaks off", strings.TrimSuffix(dmesg(plain), "\"\n      }\n   ]\n}\n"), []string{"BUG: kernel NULL pointer dereference in memcpy"}},
		{"journalctl -o json", journal(record), []string{title}},
		{"journalctl -o json-pretty", journal(strings.NewReplacer(",", ",\n\t", ":", " : ", "{", "{\n\t").Replace(record)), []string{title}},
		{"journalctl -o json of a program", journal(strings.Replace(record, `"kernel"`, `"stdout"`, 1)), nil},
		{"journalctl -o json, by /dev/kmsg", journal(strings.Replace(record, `"0"`, `"1"`, 1)), nil},
		{"a field that is there twice", journal(strings.Replace(record, `"12345678"`, `["1","2"]`, 1)), []string{title}},
		{"what is not UTF-8", journal(record) + bytes, []string{title, "BUG: out of reach\xff"}},
		{"journalctl -o verbose", journal(verbose), []string{title}},
		{"journalctl -o verbose, with a program's", journal(verbose) + fmt.Sprintf(strings.Replace(verbose, "=kernel", "=stdout", 1), "kernel BUG at fs/wombat.c:77!"), []string{title}},
		{"journalctl -o export", journal(export), []string{title}},
		{"dmesg -x", journal("kern  :warn  : [   12.345678] %s\n"), []string{title}},
		{"dmesg -x -T", journal("kern  :warn  : [Sun Nov 29 06:00:00 2026] %s\n"), []string{title}},
		{"dmesg -x -t", journal("kern  :emerg : %s\n"), []string{title}},
		{"dmesg --raw", journal("<4>[   12.345678] %s\n"), []string{title}},
		{"dmesg --raw of a program beside the kernel", "<6>[   12.000000] quokka: up\n" + journal("<12>[   12.345678] %s\n"), nil},
		{"/dev/kmsg", journal("4,1205,12345678,-,caller=T9;%s\n"), []string{title}},
		{"/dev/kmsg of a program", journal("12,1205,12345678,-;%s\n"), nil},
		{"dmesg -x of a program", journal("user  :warn  : [   12.345678] %s\n"), nil},
		{"dmesg -x -T of a program", journal("daemon:notice: [Sun Nov 29 06:00:00 2026] %s\n"), nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w, err := Read(strings.NewReader(tc.log))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, titles(w)); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}

// What begins like one of these and is none is told, and not called good.
func TestReadRefusesBrokenRecords(t *testing.T) {
	for _, log := range []string{`{"MESSAGE": nothing}`, `{"dmesg": 5 x`, "{\"MESSAGE\":\"x\"}\n[   12.345678] BUG: x\n"} {
		if _, err := Read(strings.NewReader(log)); err == nil || !strings.Contains(err.Error(), "not the JSON of") {
			t.Errorf("Read(%q) = %v; want that it is no JSON", log, err)
		}
	}
}
