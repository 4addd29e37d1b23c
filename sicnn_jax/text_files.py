"""Text that others wrote, by whatever program and on whatever machine.

What this package writes itself is UTF-8 with `\\n`, wherever it runs.
"""

import codecs
import csv
import io
import os
import re
from pathlib import Path

# Longer ones first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)
# What no text has, in whatever encoding; DOS ended files with 0x1a.
_NO_TEXT = re.compile('[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]')
# Spreadsheets write semicolons where the comma is in numbers, and tabs as "Unicode
# text".
_DELIMITERS = ',;\t'


def read_text(path: str | os.PathLike) -> str:
    """The text of a file, with `\\n` at the end of each line.

    A byte order mark says that it is UTF-8, UTF-16 or UTF-32. Without one it is UTF-8,
    or UTF-16 if every other byte is 0; what is neither is Windows-1252, or Latin-1
    where that has no such character. Lines may end as on Unix, Windows or an old Mac.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no text.
    """
    text = _decode(Path(path).read_bytes()).replace('\r\n', '\n').replace('\r', '\n')
    text = text.rstrip('\x1a')
    strange = _NO_TEXT.search(text)
    if strange:
        raise ValueError(
            f'it is no text: its character {strange.start() + 1} is '
            f'0x{ord(strange[0]):02x}'
        )
    return text


def file_name(text: str) -> str:
    """A path that a text says, as Python calls that file here.

    Names on disk are bytes, today nearly always UTF-8. Where the locale is another,
    such as C without Python's UTF-8 mode, a name that is no ASCII could not be opened.
    """
    return os.fsdecode(text.encode('utf-8', 'surrogateescape'))


def csv_rows(text: str) -> csv.DictReader:
    """Rows of a table whose first line names its columns.

    They are separated by commas, or by semicolons or tabs where the first line has
    more of those.
    """
    header = text.partition('\n')[0]
    delimiter = max(_DELIMITERS, key=header.count)
    return csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter)


def _decode(data):
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    for zeros, encoding in ((1, 'utf-16-le'), (0, 'utf-16-be')):
        if data and len(data) % 2 == 0 and data[zeros::2].count(0) * 2 > len(data) // 2:
            return data.decode(encoding)
    for encoding in ('utf-8', 'cp1252'):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass
    return data.decode('latin-1')
