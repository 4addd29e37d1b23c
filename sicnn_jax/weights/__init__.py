"""The trained networks that ship; README.md in this folder is their model card."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

CNNH = {8: _HERE / 'cnnh_8x.safetensors', 4: _HERE / 'cnnh_4x.safetensors'}
CNNR = _HERE / 'cnnr.safetensors'

NOTICE = (
    'The network is the one that ships, trained on LFW, for research.\nWhat it adds to '
    f'a face is a guess, not evidence. Its card: {_HERE / "README.md"}'
)
