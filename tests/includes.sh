#!/bin/sh
# The tests that read the sources and the built programs, by make check.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
run_pytest "$top/tests/test_includes.py" "$top/tests/test_hardening.py"
