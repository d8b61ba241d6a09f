# shellcheck shell=sh disable=SC2034,SC2154
# Shared by the tests that make check runs. Exit status 77 tells automake that a test was skipped.
top=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
PPFS_BUILD=$(cd "${PPFS_BUILD:-$top/build}" && pwd)
PYTHONDONTWRITEBYTECODE=1
export PYTHON PPFS_BUILD PYTHONDONTWRITEBYTECODE

need_pytest() {
    "$PYTHON" -c 'import pytest' 2>/dev/null || { echo "skipped: $PYTHON has no pytest"; exit 77; }
}

need_fuse() {
    # Opening the device says more than its name being there: containers often have one that may not be used.
    { [ -c /dev/fuse ] && (exec 3<>/dev/fuse) 2>/dev/null; } || { echo "skipped: /dev/fuse cannot be opened here"; exit 77; }
}

# pytest's caches would be written into the source tree, which may be read-only. PPFS_JUNIT names a report for scripts/test.
run_pytest() {
    "$PYTHON" -m pytest -p no:cacheprovider -q -rs ${PPFS_JUNIT:+"--junitxml=$PPFS_JUNIT"} "$@"
}
