"""The built programs carry what makes a fault harder to use, read from their ELF files with readelf."""
import os
import pathlib
import platform
import re
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("PPFS_BUILD") or pathlib.Path(__file__).resolve().parent.parent / "build")
PROGRAMS = ["ppfs", "ppfs-net", "ppfs-node", "ppfs-run", "ppfs-worker"]

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="what the compiler offers differs on other processors"),
    pytest.mark.skipif(os.environ.get("PPFS_SANITIZERS") == "1", reason="programs with sanitizers are not what users run"),
]


def readelf(program, *options):
    return subprocess.run(["readelf", "--wide", *options, BUILD / program], check=True, capture_output=True, text=True,
                          timeout=60).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_addresses_are_random_and_its_tables_read_only(program):
    flags = readelf(program, "--dynamic")
    assert re.search(r"FLAGS_1.*\bNOW\b.*\bPIE\b", flags), "not position independent, or symbols are bound late"
    segments = readelf(program, "--segments")
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK.* RW +0x", segments), "an executable stack"


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_buffers_are_guarded(program):
    symbols = readelf(program, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", "")), "no call is checked by _FORTIFY_SOURCE"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_file_was_compiled_with_the_flags(program):
    """The flags stand in the debugging information: one object without them is found as well."""
    producers = set(re.findall(r"DW_AT_producer.*?: (GNU C[0-9]+ .*|clang.*)", readelf(program, "--debug-dump=info", "--dwarf-depth=1")))
    if not producers or any("clang" in p for p in producers):
        pytest.skip("this compiler does not record its options")
    for flag in ("-fPIE", "-fstack-protector-strong", "-fstack-clash-protection", "-fcf-protection"):
        assert all(flag in p for p in producers), flag
