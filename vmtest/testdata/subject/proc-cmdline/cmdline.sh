#!/bin/sh
# Two checks, as TAP.
echo 1..2
if grep -q patchproof.second-subject /proc/cmdline; then
	echo "ok 1 has the program's word"
else
	echo "not ok 1 has the program's word"
fi
if [ "$(tail -c 1 /proc/cmdline | wc -l)" -eq 1 ]; then
	echo "ok 2 ends with a line end"
else
	echo "not ok 2 ends with a line end"
fi
