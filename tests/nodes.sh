#!/bin/sh
# The tests with nodes, by make check. PPFS_ROUNDS says how many rounds of killing.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
need_fuse
cd "$top" || exit 1
case " $* " in
*tests/nodes*) run_pytest "$@" ;; # files are named
*) run_pytest "tests/nodes" "$@" ;;
esac
