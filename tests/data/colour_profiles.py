"""Small ICC profiles, as bytes."""

import struct

import numpy as np

# Of Adobe RGB (1998) under D50: columns are X, Y and Z of red, green and blue.
WIDE = np.array(
    [
        [0.60974, 0.31111, 0.01947],
        [0.20528, 0.62567, 0.06087],
        [0.14919, 0.06322, 0.74457],
    ]
).T
SRGB = np.array(
    [
        [0.43607, 0.22249, 0.01392],
        [0.38515, 0.71687, 0.09708],
        [0.14307, 0.06061, 0.71410],
    ]
).T


def rgb(primaries, gamma):
    """A profile of RGB of these primaries, [3, 3], each channel of one exponent."""
    tags = {
        name: _xyz(xyz) for name, xyz in zip(('r', 'g', 'b'), primaries.T, strict=True)
    }
    tags = {f'{name}XYZ': xyz for name, xyz in tags.items()}
    return _profile('RGB ', tags | {f'{name}TRC': _curve(gamma) for name in 'rgb'})


def grey(gamma):
    """A profile of grey of one exponent."""
    return _profile('GRAY', {'kTRC': _curve(gamma)})


def inks():
    """A profile of CMYK whose every ink, alone or with others, is black or grey.

    Full black is L* = 0, full cyan 50, the other two do nothing; white is white.
    """
    lightness = [
        0 if black else 128 if cyan else 255
        for cyan in (0, 1)
        for _ in range(4)
        for black in (0, 1)
    ]
    straight = bytes(range(256))
    table = b'mft1' + bytes(4) + bytes([4, 3, 2, 0])
    table += struct.pack('>9i', *(65536 * np.eye(3, dtype=int)).ravel())
    table += 4 * straight + b''.join(bytes([each, 128, 128]) for each in lightness)
    return _profile('CMYK', {'A2B0': table + 3 * straight}, b'prtr', b'Lab ')


def _profile(kind, tags, device=b'mntr', space=b'XYZ '):
    name = b'test\0'
    description = b'desc\0\0\0\0' + struct.pack('>I', len(name)) + name + bytes(78)
    tags = {
        'desc': description,
        'cprt': b'text\0\0\0\0none\0',
        'wtpt': _xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    table, data = struct.pack('>I', len(tags)), b''
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        offset = 128 + 4 + 12 * len(tags) + len(data)
        table += tag.encode() + struct.pack('>II', offset, len(content))
        data += content
    size = struct.pack('>I', 128 + len(table) + len(data))
    head = size + b'lcms' + struct.pack('>I', 0x02400000) + device + kind.encode()
    head += space + bytes(12) + b'acsp' + bytes(28) + _xyz((0.9642, 1, 0.8249))[8:]
    return head.ljust(128, b'\0') + table + data


def _xyz(values):
    numbers = [round(65536 * value) for value in values]
    return b'XYZ ' + bytes(4) + struct.pack('>3i', *numbers)


def _curve(gamma):
    return b'curv' + bytes(4) + struct.pack('>IH', 1, round(256 * gamma))
