#!/bin/sh
# The tests on a real mount, by make check. Arguments go to pytest: tests/mount.sh -k groups, tests/mount.sh tests/mount/test_info.py
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
need_fuse
cd "$top" || exit 1
case " $* " in
*tests/mount*) run_pytest "$@" ;; # files are named
*) run_pytest "tests/mount" "$@" ;;
esac
