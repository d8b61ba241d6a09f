#!/bin/sh
# The tests that read the sources, the built programs and SECURITY.md, by make check.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
need_pytest
run_pytest "$top/tests/test_includes.py" "$top/tests/test_imports.py" "$top/tests/test_hardening.py" "$top/tests/test_security.py" "$top/tests/test_documents.py" "$top/tests/test_symbols.py" "$top/tests/test_sizes.py" "$top/tests/test_words.py"
