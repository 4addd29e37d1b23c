"""Reads text that others wrote, with any program and on any machine.

This package itself writes UTF-8 with `\\n`, wherever it runs.
"""

import codecs
import csv
import io
import os
import re
from pathlib import Path

# Longer marks come first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)
# Characters that no text has in any encoding; DOS ended files with 0x1a.
_NO_TEXT = re.compile('[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]')
# Spreadsheets write semicolons in countries with decimal commas, and tabs as "Unicode
# text".
_DELIMITERS = ',;\t'


def read_text(path: str | os.PathLike) -> str:
    """The text of a file, with `\\n` at the end of each line.

    A byte order mark tells UTF-8, UTF-16 or UTF-32. Without a mark, the text is UTF-8,
    or UTF-16 if every other byte is 0; otherwise it is Windows-1252, or Latin-1 if that
    lacks a character. Lines may end as on Unix, Windows or an old Mac.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not text.
    """
    text = _decode(Path(path).read_bytes()).replace('\r\n', '\n').replace('\r', '\n')
    text = text.rstrip('\x1a')
    strange = _NO_TEXT.search(text)
    if strange:
        raise ValueError(
            f'it is not text: its character {strange.start() + 1} is '
            f'0x{ord(strange[0]):02x}'
        )
    return text


def csv_rows(text: str) -> csv.DictReader:
    """Rows of a table whose first line names its columns.

    Columns are separated by commas, or by semicolons or tabs if the first line has more
    of those.
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
