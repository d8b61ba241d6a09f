#!/bin/sh
# The tests of ppfs-slurm against a Slurm of their own, by make check.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
need_fuse
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null || {
    echo "skipped: there is no Slurm; install slurm-wlm and munge"
    exit 77
}
cd "$top" || exit 1
case " $* " in
*tests/slurm*) run_pytest "$@" ;; # files are named
*) run_pytest "tests/slurm" "$@" ;;
esac
