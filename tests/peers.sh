#!/bin/sh
# The test suites of others over ppfs, see tests/python/PEERS.md. Arguments go to pytest.
# shellcheck source=tests/lib.sh
exec "$(dirname "$0")/python.sh" tests/python/test_peers.py "$@"
