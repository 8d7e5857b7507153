"""The headers of messages, as LSP specifies them and as clients write them.

pygls reads exactly `Content-Length: N\r\n` and waits forever after anything else. Header names are
case-insensitive, and blanks around a value mean nothing (RFC 9110, section 5, to which LSP refers).
A header that names no usable length is skipped, up to the next one that does: the server answers
again instead of hanging.
"""

from __future__ import annotations

import logging
import re
from typing import BinaryIO

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 30
"""Maximum length of a body; a larger one is a mistake."""

MAX_LINE_BYTES = 1 << 16
"""Maximum length of a line read at once while a header is looked for."""

_LONGEST_LENGTH_LINE = 64
"""Bytes kept of a long line, because a header may begin in them."""

_LENGTH = re.compile(rb"(?<!-)content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?\n?\Z", re.IGNORECASE)
_CHARSET = re.compile(
    rb"content-type[ \t]*:.*;[ \t]*charset[ \t]*=[ \t]*\"?([^\s;\"]+)", re.IGNORECASE
)
_UTF8 = (b"utf-8", b"utf8")

NOT_UTF8 = b"\xff"
"""The body in place of one in another charset: it is answered as one that cannot be read."""


def _readable(body: bytes) -> bytes:
    """The body with U+FFFD for each byte that is not UTF-8.

    A change that is thrown away would leave its document out of step with the client's.
    """
    try:
        body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        logger.warning("a message has bytes that are not UTF-8")
        return body.decode("utf-8", "replace").encode()
    return body


class HeaderReader:
    """Reads a client's stream, and gives pygls headers in the one form that it understands."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._replaced: int | None = None

    def readline(self, _limit: int = -1) -> bytes:
        """The next line of a header in canonical form; empty at the end of the stream."""
        if not self._lines:
            length = self._next_length()
            if length is None:
                return b""
            self._lines = [b"Content-Length: %d\r\n" % length, b"\r\n"]
        return self._lines.pop(0)

    def read(self, length: int = -1) -> bytes:
        """The body of the message whose header was read last."""
        if self._replaced is not None:
            self._stream.read(self._replaced)
            self._replaced = None
            return NOT_UTF8
        return _readable(self._stream.read(length))

    def _next_length(self) -> int | None:
        """The length of the next body; None at the end of the stream."""
        length: int | None = None
        charset = _UTF8[0]
        lines, rest = 0, b""
        skipping = False
        while chunk := self._stream.readline(MAX_LINE_BYTES):
            line = rest + chunk
            rest = b"" if chunk.endswith(b"\n") else line[-_LONGEST_LENGTH_LINE:]
            if not line.strip():
                if length:
                    return self._checked(length, charset)
                # Without a length, what follows is its body, of unknown size. A body may be empty.
                skipping = skipping or (lines > 0 and length is None)
                length, charset, lines = None, _UTF8[0], 0
                continue
            lines += 1
            # After a body of another size than announced, the line begins with the rest of it.
            if found := _LENGTH.search(line):
                length = int(found[1])
                if length > MAX_BODY_BYTES:
                    length = None
                elif skipping or found.start() > 0:
                    logger.warning("a message was skipped: its Content-Length is not valid")
                    skipping = False
            elif given := _CHARSET.match(line):
                charset = given[1].lower()
        return None

    def _checked(self, length: int, charset: bytes) -> int:
        if charset in _UTF8:
            return length
        logger.warning("a message in a charset other than UTF-8 cannot be read")
        self._replaced = length
        return len(NOT_UTF8)
