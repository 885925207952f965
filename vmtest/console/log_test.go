package console

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func TestConsoleLogKeepsHeadAndTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	lines := 0
	c, err := Create(path, func(string) { lines++ })
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("the first line\r\n"))
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 10_000)
	for range 3 * (logHead + logTail) / len(chunk) {
		c.Write(chunk)
	}
	c.Write([]byte("the last line"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte("the first line\n")) || !bytes.HasSuffix(got, []byte("the last line\n")) || !bytes.Contains(got, []byte("bytes of console output left out here")) {
		t.Errorf("the log keeps not head, tail and a note between: %.60q ... %q", got, got[len(got)-60:])
	}
	if most := logHead + logTail + 100; len(got) > most {
		t.Errorf("the log has %d bytes; want at most %d", len(got), most)
	}
	if want := 2 + 3*(logHead+logTail)/len(chunk)*10_000; lines != want {
		t.Errorf("%d lines were watched; want %d", lines, want)
	}
}

func TestConsoleLogBreaksLongLines(t *testing.T) {
	var lengths []int
	c, err := Create(filepath.Join(t.TempDir(), "log"), func(line string) { lengths = append(lengths, len(line)) })
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte(strings.Repeat("x", 2*longestLine+5) + "\nnext\n"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{longestLine, longestLine, 5, 4}, lengths); diff != "" {
		t.Errorf("lengths of the lines (-want +got):\n%s", diff)
	}
}

// However a log was taken, its lines are the kernel's.
func TestReadTakesWhatPutsSomethingInFront(t *testing.T) {
	for name, prefix := range map[string]string{
		"nothing": "", "dmesg --raw": "<4>", "serial console": "[   12.345678] ", "with the caller": "[   12.345678][  T9] ",
		"no time, but the caller": "[    T9] ", "dmesg --ctime": "[Tue Nov 28 12:00:01 2026] ", "dmesg --reltime": "[  +0.000003] ",
		"dmesg --time-format=iso": "2026-11-28T12:00:01,123456+00:00 ", "dmesg --color": "\x1b[32m[   12.345678] \x1b[0m\x1b[31m",
		"syslog": "Nov 28 12:00:01 host kernel: ", "journalctl": "2026-11-28T12:00:01+0000 host kernel: ",
		"journalctl -o short-full": "Tue 2026-11-28 12:00:01 UTC host kernel: ", "journalctl -o short-monotonic": "[   12.345678] host kernel: ",
		"/dev/kmsg": "4,512,12345678,-;", "/dev/kmsg with the caller": "4,512,12345678,-,caller=T9;",
		"/dev/kmsg with a fragment and the caller": "4,512,12345678,c,caller=T9,ncfrag=0/88;",
		"dmesg with the caller":                    "[   12.345678] [     T9] ", "dmesg --ctime with the caller": "[Tue Nov 28 12:00:01 2026] [     T9] ",
		"journalctl -o short-monotonic --no-hostname": "[   12.345678] kernel: ", "syslog without a host": "Nov 28 12:00:01 kernel: ",
		"Samsung": "[   12.345678] [4:     netbpfload:  825] ", "Samsung with the level": "<0>[   12.345678]  [4:     netbpfload:  825] ",
		"MediaTek": "<1>[   12.345678] (1)[812:sh]", "MediaTek, no interrupts": "<1>[   12.345678]-(1)[0:swapper/1]", "MediaTek, old": "[   12.345678] <2>.(1)[812:kworker/1:2]",
		"MediaTek, two blanks": "[   12.345678]  (1)[812:Binder:1]", "Huawei": "<1>[   12.345678s][pid:812,cpu6,a,b,9]", "Huawei, no unit": "<5>[   12.345678] [pid:812,cpu6,sh]",
		"Unisoc": "[   12.345678][ T812@C0] ", "Spreadtrum": "[   12.345678] c0 ", "Amlogic": "[   12.345678@0] ", "Motorola": "<6>[   12.345678,0] ",
		"LG": "<6>[   12.345678 / 01-01 00:00:00.000][0] ", "a time without its fraction": "[  240.] ", "LG with the task": "[   12.345678 / 01-01 00:00:00.000][2][662][ndroid.systemui] ", "no blank": "[   12.345678]", "the level behind the time": "[   12.345678] <4>",
		"logcat": "11-28 12:00:01.123     0     0 W         : ", "logcat with the time": "11-28 12:00:01.123     0     0 W         : [   12.345678,0] ",
		"syslog in French": "août 28 12:00:01 host kernel: ", "syslog in Russian": "июл 28 12:00:01 host kernel: ", "dmesg --ctime in German": "[Do Mär 28 12:00:01 2026] ",
		"a terminal's time": "[20261128120001]", "another terminal's time": "[2026-11-28 12:00:01.123] ", "grabserial": "[12.345678 0.000001] ", "docker, no time": "2026-11-28T12:00:01.123456789Z ",
		"a mail's quote": "> > ", "git log": "        ",
		"a journal of which the mail has no times": "kernel: ", "the same in a quote": "> kernel: ", "syslog, the host blotted out": "Nov 28 12:00:01  kernel: ", "a web page that takes blanks": "[   12.345678]\u00a0",
		"syslog with the time": "Nov 28 12:00:01 host kernel: [   12.345678] ",
		"dmesg --show-delta":   "[   12.345678 <    0.000003>] ", "dmesg --ctime --show-delta": "[Tue Nov 28 12:00:01 2026 <    0.000003>] ",
		"journalctl -o short-unix": "1795867201.345678 host kernel: ", "busybox": "Nov 28 12:00:01 host kern.warn kernel: ",
		"RFC 5424": "<4>1 2026-11-28T12:00:01.123456+00:00 host kernel - - - ", "netconsole with the release": "6.12.4,4,512,12345678,-,caller=T9;",
		"ts": "Nov 28 10:15:02 ", "rsyslog's raw": "<4>Nov 28 10:15:02 host kernel: ", "milliseconds": "[12.345] ", "nanoseconds": "[   12.345678901] ", "nanoseconds, the caller and the level": "<4>[   12.345678901][  T9] ",
		"LAVA's plain log": "10:15:02.371234  ", "LAVA's plain log with the day": "2026-11-28T10:15:02  ", "Jenkins": "[2026-11-28T10:15:02.123Z] ", "Jenkins with the time alone": "10:15:02  ",
		"gh run view": "boot\tRun make vmtest\t2026-11-28T10:15:02.1234567Z ", "docker compose": "vm_1  | ", "cat -n": "   123\t", "a log of a program's": "2026-11-28 10:15:02,123 ",
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			for _, line := range []string{"BUG: kernel NULL pointer dereference, address: 0000000000000010", "Oops: 0000 [#1] SMP", "RIP: 0010:memcpy+0x1f/0x40", "Call Trace:", " quokka_read+0x1f/0x40"} {
				log.WriteString(prefix + line + "\n")
			}
			w, err := Read(strings.NewReader(log.String()))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range w.Splats() {
				got = append(got, s.Title)
			}
			if diff := cmp.Diff([]string{"BUG: kernel NULL pointer dereference in quokka_read"}, got); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}

// doubled is what a log has to which two consoles go.
func doubled(log string) string {
	var both strings.Builder
	for line := range strings.Lines(log) {
		both.WriteString(line + line)
	}
	return both.String()
}

// inBase64 is a text in lines, as a mail has it.
func inBase64(text string) string {
	var lines strings.Builder
	for chunk := range slices.Chunk([]byte(text), 57) {
		lines.WriteString(base64.StdEncoding.EncodeToString(chunk) + "\n")
	}
	return lines.String()
}

// A journal has a line of its own among the kernel's, and what was mailed may be broken.
func TestReadTakesWhatPeopleSend(t *testing.T) {
	for name, test := range map[string]struct{ log, want string }{
		"journal with other lines": {"[    1.000000] host kernel: BUG: kernel NULL pointer dereference, address: 0000000000000010\n" +
			"[    1.000001] host kernel: RIP: 0010:quokka_read+0x1f/0x40\n[    1.000002] -- Boot 1 --\n", "BUG: kernel NULL pointer dereference in quokka_read"},
		"broken warning":                    {"[    1.000000] WARNING: CPU: 2 PID: 89 at\nfs/quokka/inode.c:77 quokka_evict+0x12/0x40\n[    1.000001] Call Trace:\n", "WARNING at fs/quokka/inode.c in quokka_evict"},
		"broken hung task":                  {"[    1.000000] INFO: task sh:812 blocked for more than 122\nseconds.\n[    1.000001] Call Trace:\n[    1.000001]  quokka_wait+0x1/0x2\n", "INFO: task hung: sh in quokka_wait"},
		"broken in a quote":                 {"> > [    1.000000] WARNING: CPU: 2 PID: 89 at\n> > fs/quokka/inode.c:77 quokka_evict+0x12/0x40\n> > [    1.000001] Call Trace:\n", "WARNING at fs/quokka/inode.c in quokka_evict"},
		"broken before the function":        {"> [    1.000000] WARNING: CPU: 2 PID: 89 at fs/quokka/inode.c:77\n> quokka_evict+0x12/0x40\n> [    1.000001] Modules linked in: a\n> b c\n", "WARNING at fs/quokka/inode.c in quokka_evict"},
		"broken hung task in a quote":       {"> [    1.000000] INFO: task sh:812 blocked for more than\n> 122 seconds.\r\n> [    1.000001] Call Trace:\n> [    1.000001]  quokka_wait+0x1/0x2\n", "INFO: task hung: sh in quokka_wait"},
		"broken lock":                       {"[    1.000000] [ BUG: Invalid wait context ]\n[    1.000001] sh/812 is trying to lock:\n[    1.000002] ffffbca6d49c19b8 (quokka_lock){+.+.}-\n{3:3}, at: quokka_get+0x48/0xe8\n", "[ BUG: Invalid wait context ]: quokka_lock in quokka_get"},
		"broken fault":                      {"[    1.000000] Unable to handle kernel NULL pointer dereference at virtual\naddress 0000000000000010\n[    1.000001] pc : quokka_read+0x1/0x2\n", "Unable to handle kernel NULL pointer dereference in quokka_read"},
		"broken at the end":                 {"[    1.000000] Kernel panic - not syncing: Attempted to kill init!\n", "Kernel panic - not syncing: Attempted to kill init"},
		"all lines twice":                   {doubled("[    1.000000] ------------[ cut here ]------------\n[    1.000001] quokka: bad state\n[    1.000002] WARNING: CPU: 2 PID: 89 at fs/quokka/inode.c:77 quokka_evict+0x12/0x40\n[    1.000003] RIP: 0010:quokka_evict+0x12/0x40\n[    1.000004] Call Trace:\n[    1.000005]  evict+0x12/0x40\n"), "quokka: bad state in quokka_evict"},
		"behind a quote":                    {"want no \"[    1.000000] kernel BUG at fs/quokka.c:77!\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"docker":                            {`{"log":"[    1.000000] kernel BUG at fs/quokka.c:77!\r\n","stream":"stdout"}` + "\n" + `{"log":"[    1.000000] RIP: 0010:quokka_read+0x1/0x2\r\n","stream":"stdout"}` + "\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"LAVA":                              {`- {"dt": "2026-11-28T12:00:01", "lvl": "target", "msg": "[    1.000000] kernel BUG at fs/quokka.c:77!"}` + "\n" + `- {"dt": "2026-11-28T12:00:01", "lvl": "target", "msg": "[    1.000000] RIP: 0010:quokka_read+0x1/0x2"}` + "\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"a terminal's":                      {"[    1.000000] ------------[ cut here ]------------\x1b[K\n[    1.000001] quokka: bad state\x1b[K\n[    1.000002] WARNING: CPU: 2 PID: 89 at fs/quokka/inode.c:77 quokka_evict+0x12/0x40\x1b[K\n", "quokka: bad state in quokka_evict"},
		"a web page, whose blanks are gone": {"[    1.000000] WARNING: CPU: 2 PID: 89 at lib/refcount.c:28 refcount_warn_saturate+0x12/0x40\n[    1.000001] RIP: 0010:refcount_warn_saturate+0x12/0x40\n[    1.000002] Call Trace:\n[    1.000003] <IRQ>\n[    1.000004] ? show_regs+0x1/0x2\n[    1.000005] quokka_put+0x1/0x2 [quokka]\n[    1.000006] </IRQ>\n[    1.000007] <TASK>\n[    1.000008] wombat_read+0x1/0x2\n", "WARNING at lib/refcount.c in quokka_put"},
		"Amlogic's stack":                   {"[    1.000000@1] kernel BUG at fs/quokka.c:77!\n[    1.000001@1] Internal error: Oops - BUG: 0 [#1] PREEMPT SMP ARM\n[    1.000002@1] PC is at memcpy+0x18/0x68\n[    1.000003@1] [bc001c64+  40][<c05df694>] memcpy+0xb8/0xf4\n[    1.000004@1] [bc001c8c+  40][<c0340898>] quokka_read+0xfc/0x288\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"a cloud's JSON":                    {"{\n \"Output\": \"[    0.000000] Linux version 6.12.4\\r\\n" + strings.Repeat(`[    0.000001] a\r\n`, 500) + "[    1.000000] kernel BUG at fs/quokka.c:77!\\r\\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\\r\\n[    1.000000] Call Trace:\\r\\n[    1.000000]  vfs_read+0x1/0x2\\r\\n[    1.000000] a\\r\\n[    1.000000] a\\r\\n[    1.000000] a\\r\\n\"\n}\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"LAVA, a list of YAML's":            {`-  {dt: '2026-11-28T12:00:01', lvl: target, msg: '[    1.000000] kernel BUG at fs/quokka.c:77!'}` + "\n" + `-  {dt: '2026-11-28T12:00:01', lvl: target, msg: '[    1.000000] RIP: 0010:quokka_read+0x1/0x2'}` + "\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"LAVA, a list of JSON's":            {`[{"dt": "2026-11-28T12:00:01", "lvl": "target", "msg": "[    1.000000] kernel BUG at fs/quokka.c:77!"},` + "\n" + `{"dt": "2026-11-28T12:00:01", "lvl": "target", "msg": "[    1.000000] RIP: 0010:quokka_read+0x1/0x2"}]` + "\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"a collector of logs":               {`{"timestamp":"2026-11-28T12:00:01Z","message":"[    1.000000] kernel BUG at fs/quokka.c:77!"}` + "\n" + `{"timestamp":"2026-11-28T12:00:01Z","message":"[    1.000000] RIP: 0010:quokka_read+0x1/0x2"}` + "\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"JSON that a program prints":        {"[    1.000000] kernel BUG at fs/quokka.c:77!\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\n" + `{"message":"[    1.500000] kernel BUG at fs/wombat.c:77!"}` + "\n[    2.000000] x\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"a mail in quoted-printable": {"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nHi,\n\n[    1.000000] WARNING: CPU: 2 PID: 89 at fs/quokka/inode.c:77 quokka_ev=\nict+0x12/0x40\n[    1.000001] RIP: 0010:mem=\ncpy+0x12/0x40\n" +
			"[    1.000002] Call Trace:\n[    1.000003] =20quokka_evict+0x12=\n/0x40\n", "WARNING at fs/quokka/inode.c in quokka_evict"},
		"the same without its head": {"[    1.000000] WARNING: CPU: 2 PID: 89 at fs/quokka/inode.c:77 quokka_ev=\r\nict+0x12/0x40\r\n[    1.000001] RIP: 0010:mem=\r\ncpy+0x12/0x40\r\n" +
			"[    1.000002] Call Trace:\r\n[    1.000003] =20quokka_evict+0x12=\r\n/0x40\r\n", "WARNING at fs/quokka/inode.c in quokka_evict"},
		"an attachment": {"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: 7bit\n\nHi,\n--b\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment\n\n" +
			inBase64("[    1.000000] kernel BUG at fs/quokka.c:77!\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\n") + "--b--\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"UTF-16":                 {"\xff\xfe" + strings.ReplaceAll("[    1.000000] kernel BUG at fs/quokka.c:77!\r\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\r\n", "", "\x00")[1:], "kernel BUG at fs/quokka.c in quokka_read"},
		"lines of a separator's": {"[    1.000000] ==================\n[    1.000000] ------------------=\n[    1.000000] x=\n[    1.000000] kernel BUG at fs/quokka.c:77!\n[    1.000000] RIP: 0010:quokka_read+0x1/0x2\n", "kernel BUG at fs/quokka.c in quokka_read"},
		"SCSI address":           {"[    1.000000] [0:0:0:0] sd: x\n[    1.000000] kernel BUG at fs/quokka.c:77!\n", "kernel BUG at fs/quokka.c"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := Read(strings.NewReader(test.log))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range w.Splats() {
				got = append(got, s.Title)
			}
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}

// The logs of robots come compressed.
func TestReadUnpacks(t *testing.T) {
	const log = "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010\n[    1.000001] RIP: 0010:quokka_read+0x1f/0x40\n"
	for name, pack := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		t.Run(name, func(t *testing.T) {
			var packed bytes.Buffer
			out, err := pack(&packed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(out, log); err != nil {
				t.Fatal(err)
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			w, err := Read(bytes.NewReader(packed.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Splats(); len(got) != 1 || got[0].Title != "BUG: kernel NULL pointer dereference in quokka_read" {
				t.Errorf("complaints = %+v; want the one of the log", got)
			}
			if _, err := Read(bytes.NewReader(packed.Bytes()[:packed.Len()/2])); err == nil {
				t.Error("half of the file is read without a word")
			}
		})
	}
}
