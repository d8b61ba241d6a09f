#!/bin/sh
# The tests on a real mount, by make check. Arguments go to pytest: tests/mount.sh -k groups
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
need_fuse
run_pytest "$top/tests/mount" "$@"
