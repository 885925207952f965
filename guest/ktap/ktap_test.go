package ktap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

func read(text string) (got []string, found bool) {
	r := NewReader(func(res Result) {
		line := fmt.Sprintf("%s %s", res.Verdict, res.Name)
		if res.Detail != "" {
			line += ": " + strings.ReplaceAll(res.Detail, "\n", "|")
		}
		got = append(got, line)
	})
	for line := range strings.Lines(text) {
		r.Line(line)
	}
	r.End()
	return got, r.found
}

func TestReader(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"flat", "TAP version 13\n1..2\nok 1 - first\nsome words\nnot ok 2 second\n", []string{
			"pass first", "fail second: some words"}},
		{"directives", "KTAP version 1\n1..7\nok 1 a # SKIP no hardware\nnot ok 2 b # SKIP: none\nnot ok 3 c # TODO later\nok 4 d # XFAIL known\nnot ok 5 e # TIMEOUT 45 seconds\nok 6 f # TODO\nnot ok 7 g # exit=1\n", []string{
			"skip a: no hardware", "skip b: none", "skip c: TODO later", "skip d: XFAIL known", "hang e: TIMEOUT 45 seconds", "pass f: TODO", "fail g: exit=1"}},
		{"nested by blanks", "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n    KTAP version 1\n    1..1\n    # deep.c:1 wrong\n    not ok 1 t\n  not ok 1 s1\n  ok 2 s2\nnot ok 1 suite\n", []string{
			"fail suite/s1/t: # deep.c:1 wrong", "fail suite/s1", "pass suite/s2", "fail suite"}},
		{"KUnit", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: list-kunit-test\n    # module: list_test\n    1..2\n    ok 1 list_test_init\n    ok 2 list_test_add\n# list-kunit-test: pass:2 fail:0 skip:0 total:2\n# Totals: pass:2 fail:0 skip:0 total:2\nok 1 list-kunit-test\n", []string{
			"pass list-kunit-test/list_test_init", "pass list-kunit-test/list_test_add", "pass list-kunit-test"}},
		{"kselftest's runner", "TAP version 13\n1..2\n# timeout set to 45\n# selftests: timers: posix_timers\n# TAP version 13\n# 1..2\n# ok 1 itimer\n# lost a tick\n# not ok 2 timer\n# # Totals: pass:1 fail:1\nnot ok 1 selftests: timers: posix_timers # exit=1\nok 2 selftests: timers: other\n", []string{
			"pass selftests: timers: posix_timers/itimer", "fail selftests: timers: posix_timers/timer: # lost a tick",
			"fail selftests: timers: posix_timers: exit=1", "pass selftests: timers: other"}},
		{"too few", "1..3\nok 1 a\n", []string{"pass a", "fail plan: 3 results were announced, 1 came"}},
		{"too many", "1..1\nok 1 a\nok 2 b\n", []string{"pass a", "pass b", "fail plan: 1 results were announced, 2 came"}},
		{"counted and not printed", "TAP version 13\n1..3\npid1: 66\nPASS: 0\n# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:1 error:0\nTAP version 13\n1..1\nok 1 b\n", []string{"pass b"}},
		{"counted, and some failed", "TAP version 13\n1..3\nFAIL: 1\n# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:1\n", []string{"fail totals: 2 of 3 failed, as the test counts them"}},
		{"too few counted", "TAP version 13\n1..3\nFAIL: 1\n# Planned tests != run tests (3 != 2)\n# Totals: pass:2 fail:0 xfail:0 xpass:0 skip:0 error:0\n", []string{
			"fail plan: 3 results were announced, 0 came"}},
		{"counted below kselftest's runner", "TAP version 13\n1..1\n# selftests: kcmp: kcmp_test\n# TAP version 13\n# 1..2\n# FAIL: 1\n# # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\nok 1 selftests: kcmp: kcmp_test\n", []string{
			"fail selftests: kcmp: kcmp_test/totals: 1 of 2 failed, as the test counts them", "pass selftests: kcmp: kcmp_test"}},
		{"plan last", "ok 1 a\nok 2 b\n1..2\n", []string{"pass a", "pass b"}},
		{"plan last, the first without numbers", "ok\nnot ok b\nok 3 c\n1..3\n", []string{"pass c", "pass 1", "fail b"}},
		{"plan last, and words of a program", "ok, going on\nok then\nok 1 a\nok 2 b\n1..3\n", []string{"pass a", "pass b", "fail plan: 3 results were announced, 2 came"}},
		{"nothing to run", "TAP version 13\n1..0 # SKIP no such device\n", []string{"skip plan: SKIP no such device"}},
		{"bail out", "1..2\nok 1 a\nBail out! no memory\n", []string{"pass a", "fail plan: 2 results were announced, 1 came", "fail bail out: Bail out! no memory"}},
		{"the same name twice", "1..2\nok 1 a\nok 2 a\n", []string{"pass a", "pass a (2)"}},
		{"without a name", "1..2\nok 1\nnot ok\n", []string{"pass 1", "fail 2"}},
		{"a parent that never came", "KTAP version 1\n1..1\n  1..2\n  ok 1 a\n", []string{
			"pass a", "fail end: the output ended before this test's own result", "fail plan: 2 results were announced, 1 came", "fail plan (2): 1 results were announced, 0 came"}},
		{"words of a program", "ok, going on\nnot ok\n  ok 1 indented\n", nil},
		{"carriage returns", "1..1\r\nok 1 a\r\n", []string{"pass a"}},
		{"skipped", "1..3\nok 1 a # skipped: no device\nok 2 b # Skip none\nok 3 c #SKIPPED\n", []string{"skip a: no device", "skip b: none", "skip c"}},
		{"a remark about errors", "1..3\nok 1 open # error path\nok 2 b # timeout of 3 s kept\nnot ok 3 c # ERROR no setup\n", []string{
			"pass open: error path", "pass b: timeout of 3 s kept", "fail c: ERROR no setup"}},
		{"YAML", "TAP version 13\n1..2\nnot ok 1 a\n  ---\n  message: x\n  ok: false\n  not ok 7 y\n  1..9\n  ...\nok 2 b\n", []string{"fail a: message: x|ok: false|not ok 7 y|1..9", "pass b"}},
		{"YAML that is cut", "TAP version 13\n1..2\nnot ok 1 a\n  ---\n  message: x\nok 2 b\n", []string{"fail a", "pass b"}},
		{"two programs", "1..1\nok 1 a\n1..2\nok 1 b\nok 2 c\n", []string{"pass a", "pass b", "pass c"}},
		{"two programs, the first too short", "1..2\nok 1 a\n1..1\nok 1 b\n", []string{"pass a", "fail plan: 2 results were announced, 1 came", "pass b"}},
		{"two programs, the second short", "1..1\nok 1 a\n1..2\nok 1 b\n", []string{"pass a", "pass b", "fail plan: 2 results were announced, 1 came"}},
		{"two programs, the second dies at once", "1..2\nok 1 a\nok 2 b\n1..2\n", []string{"pass a", "pass b", "fail plan: 2 results were announced, 0 came"}},
		{"two programs, the first dies at once", "TAP version 13\n1..3\nTAP version 13\n1..1\nok 1 b\n", []string{"fail plan: 3 results were announced, 0 came", "pass b"}},
		{"two programs without versions, the first dies at once", "1..1\n1..1\nok 1 b\n", []string{"fail plan: 1 results were announced, 0 came", "pass b"}},
		{"braces", "TAP version 14\n1..3\nok 1 - a {\n    ok 1 - x\n    not ok 2 - y {\n        not ok 1 - z\n        1..1\n    }\n    1..2\n}\nok 2 - b # time=3ms {\n    1..1\n    ok 1\n}\nok 3 - c\n", []string{
			"pass a", "pass a/x", "fail a/y", "fail a/y/z", "pass b: time=3ms", "pass b/1", "pass c"}},
		{"braces on a line of their own", "TAP version 14\nnot ok 1 - a\n  ---\n  at: x.js\n  ...\n{\n    not ok 1 - x\n    1..1\n}\nok 2 - b\n1..2\n", []string{
			"fail a: at: x.js", "fail a/x", "pass b"}},
		{"braces that the end cuts", "TAP version 14\n1..1\nok 1 - a {\n    1..2\n    ok 1 - x\n", []string{
			"pass a", "pass a/x", "fail a/end: the output ended before this test's own result", "fail a/plan: 2 results were announced, 1 came"}},
		{"a closing brace that is missing", "1..2\nok 1 - a {\n    not ok 1 - x\n    1..1\nok 2 - b\n", []string{"pass a", "fail a/x", "pass b"}},
		{"braces to be skipped or done", "1..3\nok 1 - a # SKIP none {\n    1..0\n}\nnot ok 2 - b # TODO later {\n    not ok 1 - x\n    1..1\n}\nok 3 - a brace { and }\n", []string{
			"skip a: none", "skip b: TODO later", "skip b/x: TODO, as the test that it is part of", "pass a brace { and }"}},
		{"a subtest to be done", "TAP version 14\n# Subtest: a\n    not ok 1 - x\n    1..1\nnot ok 1 - a # TODO\n1..1\n", []string{
			"skip a/x: TODO, as the test that it is part of", "skip a: TODO"}},
		{"a subtest without numbers", "# Subtest: a\n    ok - x\n    not ok - y\n    1..2\nok - a\n1..1\n", []string{"pass a/x", "fail a/y", "pass a"}},
		{"a subtest at the very beginning", "    # Subtest: a\n    not ok 1 - x\n    1..1\nok 1 - a\n1..1\n", []string{"fail a/x", "pass a"}},
		{"all of it indented", "  1..2\n  ok 1 - a\n  not ok 2 - b\n", []string{"pass a", "fail b"}},
		{"a range of a program", "range:\n  1..10\ndone\n", nil},
		{"no numbers, and the plan last", "ok a\nnot ok b\n1..2\n", []string{"pass a", "fail b"}},
		{"no numbers and no plan", "ok - a\nnot ok - b\n", []string{"pass a", "fail b"}},
		{"words before the plan", "ok\n1..1\nok 1 a\n", []string{"pass a"}},
		{"programs of kselftest.h, one after the other", "TAP version 13\n1..1\nok 1 one\n# Totals: pass:1 fail:0\n\n\tERROR: Invalid argument: futex failure\nTAP version 13\n1..1\n" +
			"not ok 1 # error two\n# Totals: pass:0 fail:0 error:1\n", []string{"pass one", "fail two: ERROR: Invalid argument: futex failure"}},
		{"kselftest.h", "TAP version 13\n1..5\nok 1 # SKIP no such device\nok 2 # XFAIL known\nnot ok 3 # error in setup\nok 4 name # XPASS better\nok 5 # SKIP\n# Totals: pass:0 fail:0 xfail:1 xpass:1 skip:2 error:1\n", []string{
			"skip no such device", "skip known: XFAIL", "fail in setup: ERROR", "pass name: XPASS better", "skip 5"}},
		{"kselftest.h's way to skip the rest", "TAP version 13\n1..12\nok 1 # SKIP must be root\n# Planned tests != run tests (12 != 1)\n", []string{
			"skip must be root", "skip plan: 12 results were announced, 1 came, and the rest was skipped: must be root"}},
		{"a name that is skipped, and then nothing", "TAP version 13\n1..3\nok 1 a # SKIP none\n", []string{"skip a: none", "fail plan: 3 results were announced, 1 came"}},
		{"kselftest_harness.h", "TAP version 13\n1..3\n# Starting 3 tests from 1 test cases.\n#  RUN           global.a ...\n#            OK  global.a\nok 1 global.a\n#  RUN           global.b ...\n# b.c:5:b:Expected 1 (1) == 2 (2)\n# b: Test failed\n#          FAIL  global.b\nnot ok 2 global.b\n#  RUN           global.c ...\n#      SKIP      no hardware\n#            OK  global.c\nok 3 global.c # SKIP no hardware\n# FAILED: 2 / 3 tests passed.\n", []string{
			"pass global.a", "fail global.b: # b.c:5:b:Expected 1 (1) == 2 (2)|# b: Test failed|#          FAIL  global.b", "skip global.c: no hardware"}},
		{"a result that came twice, and one that did not", "1..3\nok 1 a\nok 1 a\nok 2 b\n", []string{"pass a", "pass a (2)", "pass b", "fail plan: 3 results were announced, 3 came, but 1 of them twice"}},
		{"a number beyond the plan", "1..2\nok 1 a\nok 3 c\n", []string{"pass a", "pass c", "fail plan: 2 results were announced, 2 came, of which one has the number 3"}},
		{"the kernel's log", "[    1.000000] KTAP version 1\n[    1.000001] 1..1\n[    1.000002]     # Subtest: s\n[    1.000003][  T12]     1..1\n[    1.000004]     not ok 1 a\n[    1.000005] ok 1 s\n", []string{"fail s/a", "pass s"}},
		{"the kernel's log with its levels and dates", "<6>[    1.0] 1..2\n<6>[    1.1] ok 1 a\n[Sun Nov 29 19:00:00 2026] not ok 2 b\n", []string{"pass a", "fail b"}},
		{"colours", "1..2\n\x1b[32mok 1 a\x1b[0m\n\x1b[1;31mnot ok\x1b[m 2 b\n", []string{"pass a", "fail b"}},
		{"a terminal's title, and bytes of nothing", "1..3\n\x1b]0;make\x07not ok 1 a\n\x00\x00not ok 2 b\n\x1b]8;;x\x1b\\ok 3 c\n", []string{"fail a", "fail b", "pass c"}},
		{"a mark of its encoding", "\ufeffTAP version 13\n1..1\nnot ok 1 a\n", []string{"fail a"}},
		{"a terminal's progress", "1..2\n 10%\r 90%\rok 1 a\n\rnot ok 2 b\n", []string{"pass a", "fail b"}},
		{"YAML for the last", "TAP version 13\n1..2\nok 1 a\n  ---\n  fine: yes\n  ...\nnot ok 2 b\n  ---\n  message: x\n  data:\n    got: 1\n  ...\n", []string{
			"pass a", "fail b: message: x|data:|  got: 1"}},
		{"a rule that is no YAML", "KTAP version 1\n1..1\n  1..2\n  ok 1 a\n  ---\n  not ok 2 b\nok 1 s\n", []string{"pass s/a", "fail s/b: ---", "pass s"}},
		{"node's", "TAP version 13\n# Subtest: a\n    # Subtest: b\n    not ok 1 - b\n      ---\n      error: |-\n        ok 1 x\n      ...\n    1..1\nnot ok 1 - a\n  ---\n  failureType: 'subtestsFailed'\n  ...\n1..1\n# tests 1\n# pass 0\n", []string{
			"fail a/b: error: |-|  ok 1 x", "fail a: failureType: 'subtestsFailed'"}},
		{"bats'", "1..3\nok 1 a\nnot ok 2 b\n# (in test file x.bats, line 6)\n#   `false' failed\nok 3 c # skip no root\n", []string{
			"pass a", "fail b: # (in test file x.bats, line 6)|#   `false' failed", "skip c: no root"}},
		{"perl's", "ok 1 - a\nnot ok 2 - b\n#   Failed test 'b'\n#          got: '1'\nnot ok 3 - c # TODO fix\n#   Failed (TODO) test 'c'\n1..3\n# Looks like you failed 1 test of 3.\n", []string{
			"pass a", "fail b: #   Failed test 'b'|#          got: '1'", "skip c: TODO fix|#   Failed (TODO) test 'c'"}},
		{"prove's", "t/a.t .. \n1..2\nok 1 - a\nok 2 - b\nok\nt/b.t .. \n1..2\nok 1 - c\nFailed 1/2 subtests \n", []string{
			"pass a", "pass b", "pass c", "fail plan: 2 results were announced, 1 came"}},
		{"pytest-tap's", "TAP version 13\n1..4\n# TAP results for test_x.py\nok 1 test_x.py::test_a[1 \\# 2]\nnot ok 2 test_x.py::test_b\nok 3 test_x.py::test_c # SKIP needs root\nnot ok 4 test_x.py::test_d # TODO expected failure\n", []string{
			"pass test_x.py::test_a[1 # 2]", "fail test_x.py::test_b", "skip test_x.py::test_c: needs root", "skip test_x.py::test_d: TODO expected failure"}},
		{"libtest's", "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed\n", nil},
		{"avocado's", "1..2\n# debug.log of /bin/true:\n#   19:00:00 INFO | ok 1\nok 1 /bin/true\nnot ok 2 /bin/false\n", []string{"pass /bin/true", "fail /bin/false"}},
		{"a number of an issue", "1..2\nok 1 fixes #12\nok 2 fixes #13 # 4 ms\n", []string{"pass fixes #12", "pass fixes #13: 4 ms"}},
		{"a plan and a version with a remark", "TAP version 13 # of mine\n1..1 # one\nnot ok 1 a\n", []string{"fail a"}},
		{"a bail out in small letters", "1..1\nbail out! no disk\n", []string{"fail plan: 1 results were announced, 0 came", "fail bail out: Bail out! no disk"}},
		{"a subtest with nothing to run", "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: a\n    1..0\nok 1 a\nok 2 b\n", []string{"skip a: nothing to run", "pass b"}},
		{"a program with nothing to run, by kselftest's runner", "TAP version 13\n1..1\n# timeout set to 45\n# selftests: x: a\n# TAP version 13\n# 1..0 # SKIP no device\nok 1 selftests: x: a\n", []string{"skip selftests: x: a: SKIP no device"}},
		{"kselftest_harness.h around results", "TAP version 13\n1..3\n# Starting 3 tests from 1 test cases.\n#  RUN           global.a ...\nok 1 wake private\nok 2 wake shared\n#            OK  global.a\nok 1 global.a\n#  RUN           global.b ...\n1..0 # SKIP no shmget\n#            OK  global.b\nok 2 global.b # SKIP unknown\n#  RUN           global.c ...\nnot ok 1 wake\n# c: Test failed\n#          FAIL  global.c\nnot ok 3 global.c\n# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0\n", []string{
			"pass global.a/wake private", "pass global.a/wake shared", "pass global.a", "skip global.b: unknown", "fail global.c/wake", "fail global.c: # c: Test failed|#          FAIL  global.c"}},
		{"kselftest_harness.h around results, by kselftest's runner, and the next program", "TAP version 13\n1..2\n# timeout set to 45\n# selftests: x: a\n# TAP version 13\n# 1..1\n# # Starting 1 tests from 1 test cases.\n# #  RUN           global.a ...\n# ok 1 inner\n# #            OK  global.a\n# ok 1 global.a\nok 1 selftests: x: a\n# timeout set to 45\n# selftests: x: b\n# TAP version 13\n# 1..1\n# ok 1 b\nok 2 selftests: x: b\n", []string{
			"pass selftests: x: a/global.a/inner", "pass selftests: x: a/global.a", "pass selftests: x: a", "pass selftests: x: b/b", "pass selftests: x: b"}},
		{"kselftest_harness.h, a test that ends it all", "TAP version 13\n1..2\n# Starting 2 tests from 1 test cases.\n#  RUN           global.a ...\nok 1 inner\n", []string{
			"pass global.a/inner", "fail global.a/end: the output ended before this test's own result", "fail plan: 2 results were announced, 0 came"}},
		{"nothing to run, and then something", "1..0 # SKIP none\n1..1\nok 1 b\n", []string{"pass b"}},
		{"words in a remark", "TAP version 13\n1..1\n# ok 12 requests done\n# not ok 3 retries\nok 1 a\n", []string{"pass a"}},
		{"results in remarks after their version", "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# not ok 1 b\nnot ok 1 a\n", []string{"fail a/b", "fail a"}},
		{"indented words", "TAP version 13\n1..1\n  ok to go on\n  not ok, so again\nok 1 a\n", []string{"pass a"}},
		{"words that begin like a result", "1..1\nok, going on\nokay\nnot okay\nnot ok: no\nok 1 a\n", []string{"pass a"}},
		{"numbers with a sign behind", "1..3\nok 1: a\nok 2- b\nok 3 -c\n", []string{"pass a", "pass b", "pass -c"}},
		{"a number that is the name", "1..2\nok 1 2nd pass\nok 2nd\n", []string{"pass 2nd pass", "pass 2nd"}},
		{"TAP 14's subtest", "TAP version 14\n1..2\n# Subtest: one\n    1..2\n    ok 1 - a\n    ok 2\nok 1 - one\nok 2 - two # time=3ms\n", []string{
			"pass one/a", "pass one/2", "pass one", "pass two: time=3ms"}},
		{"KUnit's parameters", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n        KTAP version 1\n        # Subtest: p\n        ok 1 zero\n        not ok 2 one\n    # p: pass:1 fail:1 skip:0 total:2\n    not ok 1 p\nnot ok 1 s\n", []string{
			"pass s/p/zero", "fail s/p/one", "fail s/p: # p: pass:1 fail:1 skip:0 total:2", "fail s"}},
		{"a subtest without a result of its own, then another", "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: a\n  1..1\n  ok 1 x\n  KTAP version 1\n  # Subtest: b\n  1..1\n  ok 1 y\nok 2 b\n", []string{
			"pass a/x", "pass b/y", "pass b", "fail plan: 2 results were announced, 1 came"}},
		{"the runner's time out", "TAP version 13\n1..1\n# timeout set to 45\n# selftests: x: y\n# TAP version 13\n# 1..3\n# ok 1 a\n#\nnot ok 1 selftests: x: y # TIMEOUT 45 seconds\n", []string{
			"pass selftests: x: y/a", "fail selftests: x: y/plan: 3 results were announced, 1 came", "hang selftests: x: y: TIMEOUT 45 seconds|#"}},
		{"the runner's, without a plan", "TAP version 13\n1..1\n# timeout set to 45\n# selftests: x: y\n# ok 1 a\n# not ok 2 b\nnot ok 1 selftests: x: y # exit=1\n", []string{
			"pass selftests: x: y/a", "fail selftests: x: y/b", "fail selftests: x: y: exit=1"}},
		{"a bail out inside", "TAP version 14\n1..2\n    1..2\n    ok 1 a\n    Bail out! gone\n", []string{
			"pass a", "fail plan: 2 results were announced, 1 came", "fail plan (2): 2 results were announced, 0 came", "fail bail out: Bail out! gone"}},
		{"no line's end", "1..1\nok 1 a", []string{"pass a"}},
		{"bytes", "1..2\nok 1 a\x00b\n\xff\xfe\nnot ok 2 \xff\n", []string{"pass a\\x00b", "fail \\xff: \xff\xfe"}},
		{"tabs", "TAP version 14\n1..1\n\t1..1\n\tok 1 a\nok 1 b\n", []string{"pass b/a", "pass b"}},
		{"numbers that leap", "1..3\nok 1 a\nok 3 c\nok 2 b\n", []string{"pass a", "pass c", "pass b"}},
		{"huge plan", "1..99999999999999999999999\nok 1 a\n", []string{"pass a", "fail plan: 1073741824 results were announced, 1 came"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, found := read(test.text)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if want := len(test.want) > 0; found != want {
				t.Errorf("found %v; want %v", found, want)
			}
		})
	}
}

func TestReaderIsBounded(t *testing.T) {
	verdicts := map[event.Verdict]int{}
	results := 0
	planned := false
	r := NewReader(func(res Result) {
		results++
		verdicts[res.Verdict]++
		planned = planned || res.Name == "plan"
	})
	for i := range maxResults + 100 {
		r.Line(fmt.Sprintf("ok %d t%d", i+1, i))
	}
	r.Line("not ok last")
	r.Line("1..1000000")
	r.End()
	if results > maxResults+10 {
		t.Errorf("%d results came; want at most some more than %d", results, maxResults)
	}
	if verdicts[event.Fail] == 0 {
		t.Error("a failure beyond the limit was lost")
	}
	if !planned {
		t.Error("nothing is said of a plan that is not kept, beyond the limit")
	}
}

// Names are unique whatever a test calls its results, and none is that of a check that
// somebody else makes.
func TestNamesAreUnique(t *testing.T) {
	var got []string
	r := NewReader(func(res Result) { got = append(got, res.Name) }, "exit")
	for i, name := range []string{"exit", "b (2)", "b", "b", "b", "a\xff", "a\xfe", "a\\xff"} {
		r.Line(fmt.Sprintf("ok %d %s", i+1, name))
	}
	r.End()
	want := []string{"exit (2)", "b (2)", "b", "b (3)", "b (4)", `a\xff`, `a\xfe`, `a\xff (2)`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func FuzzReader(f *testing.F) {
	f.Add("TAP version 13\n1..2\n# ok 1 a\n  not ok 2\nok 1\nBail out!\n")
	f.Fuzz(func(t *testing.T, text string) {
		seen, failed := map[string]bool{}, false
		r := NewReader(func(res Result) {
			if res.Name == "" || seen[res.Name] {
				t.Errorf("result with the name %q; want another for each", res.Name)
			}
			seen[res.Name] = true
			failed = failed || res.Verdict == event.Fail
		})
		// Nothing that comes before a failure hides it.
		for line := range strings.Lines(text + "\nnot ok 1 last\n") {
			r.Line(line)
		}
		r.End()
		if !failed {
			t.Error("a test that failed came out as none")
		}
	})
}
