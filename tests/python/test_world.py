"""What calls have of the program that they come from: its environment, its standard output, its loggers."""
import io
import logging
import multiprocessing
import os
import sys

import pytest
from called import fail, warn
import ppfs
from ppfs._stream import frames
from ppfs._stream.output import Output


def environment():
    return dict(os.environ)


def say(words, error=""):
    print(words)
    print(error, end="", file=sys.stderr)
    return words


def log(words, name="some.logger"):
    logger = logging.getLogger(name)
    logger.debug("debug %s", words)
    logger.info("info %s", words)
    try:
        raise ValueError(words)
    except ValueError:
        logger.exception("at all")
    return True


def test_the_environment(m, monkeypatch):
    """That of the executor's making, with the workers' own PPFS_*, and no process of their own for it."""
    monkeypatch.setenv("MINE", "here \udcff")
    monkeypatch.setenv("PPFS_JOB", "none")
    monkeypatch.delenv("HOME", raising=False)
    with ppfs.Executor(str(m.mnt), env="inherit") as ex, ppfs.Executor(str(m.mnt)) as other:
        monkeypatch.setenv("MINE", "later")
        found = ex.submit(environment).result()
        assert found["MINE"] == "here \udcff" and "HOME" not in found and found["PPFS_JOB"] != "none"
        assert found["PATH"] == os.environ["PATH"] and found["PPFS"] == str(m.mnt)
        assert "MINE" not in other.submit(environment).result() and "HOME" in other.submit(environment).result()
        assert len(set(ex.map(lambda _: os.getpid(), range(40)))) <= 8
    with ppfs.Executor(str(m.mnt), env="inherit", initializer=os.putenv, initargs=("A", "b")) as ex:
        assert ex.submit(environment).result()["MINE"] == "later"
    with ppfs.Executor(str(m.mnt), env={"MINE": "own"}) as ex:
        assert ex.submit(os.getenv, "MINE").result() == "own"
    with pytest.raises(ValueError, match="'source' sends no environment"):
        ppfs.Executor(str(m.mnt), env="inherit", serializer="source")


def test_what_is_printed(m):
    """Is there before the result; the future has it as well."""
    out, err = io.StringIO(), io.StringIO()
    with ppfs.Executor(str(m.mnt), stdout=out, stderr=err) as ex:
        assert ex.submit(say, "words", "trouble").result() == "words"
        assert (out.getvalue(), err.getvalue()) == ("words\n", "trouble")
        future = ex.submit(print, "x" + "\N{EURO SIGN}" * 200_000)
        future.result()
        assert out.getvalue() == "words\nx" + "\N{EURO SIGN}" * 200_000 + "\n" and future.stdout == out.getvalue()[6:]
        out.close()
        assert ex.submit(say, "words").result() == "words"
        assert ex.submit(say, "words").result() == "words"


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000])
def test_pieces(n, caplog):
    """However the bytes come, characters and records stay whole; what only looks like a record is printed."""
    out, err, printed = io.StringIO(), io.StringIO(), b""
    output = Output("\x1etoken ", out, err)
    record = b'\x1etoken {"name": "some.logger", "levelno": 40, "levelname": "ERROR", "msg": "so"}\n'
    data = "\N{EURO SIGN}one\x1etwo".encode() + record + b"\x1etok" + record + record + b"end\x1eto."
    for i in range(0, len(data), n):
        assert output.take(1, frames.STDOUT, data[i:i + n]) == data[i:i + n]
        printed += output.take(2, frames.STDERR, data[i:i + n])
    assert out.getvalue() == data.decode() and printed == data.replace(record, b"") == err.getvalue().encode()
    assert [r.getMessage() for r in caplog.records] == ["so"] * 3
    output.take(2, frames.STDERR, b'\x1etoken {"name": 1, "levelno": 40}\n\x1etoken {"name": "x", "levelno": 40, "handle": 1}\n')
    assert len(caplog.records) == 4


def test_each_call_warns_anew(m):
    """Also where what the call before has printed was read at once."""
    for _ in range(20):
        with ppfs.Executor(str(m.mnt)) as ex:
            futures = [ex.submit(warn, "words", "other") for _ in range(9)]
            assert all(future.result() is None and "so: words" in future.stderr for future in futures)


def test_warnings(m, monkeypatch):
    """Those of the same words and place are shown once, and what else is printed each time; the future has all of it."""
    err = io.StringIO()
    with ppfs.Executor(str(m.mnt), stderr=err) as ex:
        futures = [ex.submit(warn, words, "other") for words in ("a", "b", "a\nb", "a", "a\nb")]
        [future.result() for future in futures]
        text = err.getvalue()
        assert [text.count("so: %s\n" % words) for words in ("a", "b", "a\nb")] == [2, 1, 1], "the first two begin alike"
        assert text.count("other\n") == 5 and text.count('warnings.warn("so: %s" % words)\n') == 3
        assert all("UserWarning: so: " in future.stderr and "other\n" in future.stderr for future in futures)
        monkeypatch.setattr("warnings.filters", [("always", None, Warning, None, 0)])
        ex.submit(warn, "a").result()
        assert err.getvalue().count("so: a\n") == 3


def test_what_cannot_be_printed_here(m):
    raw = io.BytesIO()
    with ppfs.Executor(str(m.mnt), stdout=io.TextIOWrapper(raw, "ascii")) as ex:
        ex.submit(say, "\N{EURO SIGN}").result()
        assert raw.getvalue() == b"\\u20ac\n"


@pytest.mark.parametrize("serializer", [None, "pickle", "source"])
def test_what_is_logged(m, caplog, serializer):
    """Reaches the logger of the same name from the level on that was asked for; it is not printed."""
    caplog.set_level("DEBUG")
    with ppfs.Executor(str(m.mnt), serializer=serializer) as ex:
        view = ex.options(logging="INFO")
        future = view.submit(log, "words\nand more")
        assert future.result()
        assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
            ("some.logger", "INFO", "info words\nand more"), ("some.logger", "ERROR", "at all")]
        assert "ValueError: words" in caplog.records[1].exc_text and caplog.records[0].funcName == "log"
        assert future.stderr == ""
        caplog.clear()
        assert list(ex.options(logging=logging.DEBUG, priority=1).map(log, "ab", chunksize=2))
        assert [r.getMessage() for r in caplog.records] == ["debug a", "info a", "at all", "debug b", "info b", "at all"]
        caplog.clear()
        assert "at all" in ex.submit(log, "c").stderr or ex.submit(log, "c").result()
        assert not caplog.records


def test_a_logger_that_does_not_listen(m, caplog):
    caplog.set_level("ERROR", "some.logger")
    with ppfs.Executor(str(m.mnt), logging="INFO") as ex:
        ex.submit(log, "words").result()
        assert [r.levelname for r in caplog.records] == ["ERROR"]
        with pytest.raises(ValueError, match="no"):
            ex.submit(fail, ValueError, "no").result()


def test_what_a_process_pool_is_told(m):
    """Is accepted where it makes no difference, else refused by its name."""
    with ppfs.Executor(str(m.mnt), mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=None) as ex:
        assert ex.submit(abs, -1).result() == 1
    with pytest.raises(ValueError, match="^mp_context: .*no forks"):
        ppfs.Executor(str(m.mnt), mp_context=multiprocessing.get_context("fork"))
    with pytest.raises(ValueError, match="^max_tasks_per_child: "):
        ppfs.Executor(str(m.mnt), max_tasks_per_child=3)
    for level in ("LOUD", 1.5, True):
        with pytest.raises(ValueError, match="option logging=.* is not understood"):
            ppfs.Executor(str(m.mnt), logging=level)
