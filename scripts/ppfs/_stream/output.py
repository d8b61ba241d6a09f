"""What calls print and log, on its way to files and loggers of this program. The reader thread alone comes here."""
import codecs
import json
import logging
import re
import warnings
from typing import Any, Dict, Tuple

from . import frames

MOST = 1024  # unfinished pieces that are kept: calls that died may have left some


class Warnings:
    """What warnings have been shown. Each call warns anew; here they are those of one program, which shows them once."""

    # As warnings.formatwarning() writes it: a head, perhaps more lines, and the line of the source, where that is known.
    _ONE = re.compile(r"^[^\n]+:\d+: \w*Warning: [^\n]*\n"
                      r"(?:(?:(?!  |[^\n]+:\d+: \w*Warning: )[^\n]*\n){0,20}  [^\n]*\n)?", re.M)

    def __init__(self) -> None:
        self._seen: Dict[str, None] = {}

    def once(self, text: str) -> str:
        """text without the warnings that it has in common with an earlier one, unless this program shows all."""
        if "Warning: " not in text or warnings.filters[:1] == [("always", None, Warning, None, 0)]:
            return text
        return self._ONE.sub(lambda match: "" if self._was_seen(match[0]) else match[0], text)

    def _was_seen(self, warning: str) -> bool:
        seen = warning in self._seen
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen[warning] = None
        return seen


class Output:
    """mark: what a line that holds a log record begins with, up to its end (remote.py). stdout, stderr: files, or None."""

    def __init__(self, mark: str, stdout: Any = None, stderr: Any = None) -> None:
        self.mark = mark
        self._mark = mark.encode()
        self._files = {frames.STDOUT: stdout, frames.STDERR: stderr}
        self._decoders: Dict[Tuple[int, int], codecs.IncrementalDecoder] = {}  # that have a part of a character
        self._records: Dict[int, bytes] = {}  # the beginnings of log records
        self._warnings = Warnings()

    def take(self, ident: int, kind: int, data: bytes) -> bytes:
        """What that call has printed of data; what it has logged goes to its logger."""
        if kind == frames.STDERR and (ident in self._records or self._mark[:1] in data):
            data = self._without_records(ident, data)
        if self._files.get(kind) is not None and data:
            self._write(self._files[kind], (ident, kind), data)
        return data

    def _without_records(self, ident: int, data: bytes) -> bytes:
        data = self._records.pop(ident, b"") + data
        printed = b""
        while True:
            before, mark, rest = data.partition(self._mark)
            printed += before
            if not mark:
                break
            line, end, data = rest.partition(b"\n")
            if not end:
                self._keep(ident, mark + rest)
                return printed
            _log(line)
        at = printed.rfind(self._mark[:1])
        if at >= 0 and self._mark.startswith(printed[at:]):
            self._keep(ident, printed[at:])
            printed = printed[:at]
        return printed

    def _keep(self, ident: int, begun: bytes) -> None:
        if len(self._records) >= MOST:
            self._records.clear()
        self._records[ident] = begun

    def _write(self, file: Any, key: Tuple[int, int], data: bytes) -> None:
        decoder = self._decoders.pop(key, None) or codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        if decoder.getstate()[0]:
            if len(self._decoders) >= MOST:
                self._decoders.clear()
            self._decoders[key] = decoder
        if key[1] == frames.STDERR:
            text = self._warnings.once(text)
        try:
            try:
                file.write(text)
            except UnicodeEncodeError as error:
                file.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            file.flush()
        except Exception:  # a file that is closed is no reason to lose results
            pass


def _log(line: bytes) -> None:
    """A record to the logger of its name, if that listens to its level."""
    try:
        fields = json.loads(line)
        name, level = fields["name"], fields["levelno"]
        if not isinstance(name, str) or not isinstance(level, int):
            return
        logger = logging.getLogger(name)
        if logger.isEnabledFor(level):
            logger.handle(logging.makeLogRecord({key: value for key, value in fields.items()
                                                 if not hasattr(logging.LogRecord, key)}))
    except Exception:
        logging.getLogger("ppfs").exception("a log record of a call could not be handled")


__all__ = ["Output", "Warnings"]
