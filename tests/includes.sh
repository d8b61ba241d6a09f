#!/bin/sh
# The test that reads the includes, by make check.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
run_pytest "$top/tests/test_includes.py"
