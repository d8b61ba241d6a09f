#!/bin/sh
# The tests of the Python package, by make check. Arguments go to pytest, as with mount.sh.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
need_fuse
cd "$top" || exit 1
case " $* " in
*tests/python*) run_pytest "$@" ;; # files are named
*) run_pytest "tests/python" "$@" ;;
esac
