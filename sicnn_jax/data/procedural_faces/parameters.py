"""The person that a procedural face shows, and the view: what `drawing` draws.

An *identity* is the parameters of a face; a *view* is everything else about a picture
of it (pose, expression, light, background, occlusion, camera).
"""

import collections
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

_LATENT = 20  # common factors of an identity: they make fine detail predictable
_SPOTS = 24  # moles, then freckles
_MOLES = 6


def _ranges(table):
    """`part: name low high, …` lines → {'part_name': (low, high)}."""
    ranges = {}
    for line in table.strip().splitlines():
        part, entries = line.split(':')
        for entry in entries.split(','):
            name, low, high = entry.split()
            ranges[f'{part.strip()}_{name}'] = (float(low), float(high))
    return ranges


# Ranges of the identity's parameters, uniformly covered. Unit intervals are switches
# and mixtures, read by the function that draws the part; where a range begins below
# zero and the drawing clips there, that share of the people go without.
_IDENTITY_RANGES = _ranges("""
    head: width 35.5 40, chin 54 62, jaw 0 0.85, cleft -1.5 1, cheek 0 1
    skin: tone 0 1, shade -0.03 0.03, blush 0 1, freckle -1.4 1, mole 0 1
    hair: colour 0 1, line 25 43, part -18 18, fringe 0 1, volume 2 9
    hair: length -12 80, wave 0 1
    brow: thick 0.8 2.3, height 9 13.5, arch 0.1 4.8, angle -0.25 0.25, inner 5 9.5
    brow: length 15 21, taper 0.3 0.95, density 0.55 1, tilt -0.9 0.9
    eye: spacing 16.2 19, width 6.6 9, upper 2.3 4.3, lower 1 2.7, slant -0.24 0.26
    eye: peak -0.6 0.6, crease 1.4 4.2, fold 0 1, bag 0 1, lash 0.4 1.7
    iris: radius 2.6 3.7, colour 0 1
    nose: length 17 23.5, width 5 9.8, bridge 1.8 3.8, tip 2 4.2, bend -1.2 1.2
    nostril: gap 2.4 4.8, width 1 2.4, height 0.5 1.7
    mouth: height 38 43.5, width 11.5 16.5, tilt -0.06 0.06, corner -1.8 1.8
    lip: upper 1.4 3.8, lower 2.4 5.4, bow 0 2.3, red 0 1
    ear: size 5 8.5
    beard: worn 0 1, line 0 1, chin 0 1, length 0 1
    moustache: worn 0 1, width 8 17, thick 1.4 3.6
    glasses: worn 0 1, width 10.8 14.2, height 6.8 10.8, square 0 1, frame 0.5 1.3
    glasses: colour 0 1, drop -0.5 3
    wrinkle: forehead -1.2 1, fold -0.5 1, eye -1 1
    scar: worn 0 1, u -27 27, v 14 32, angle -1.2 1.2
""")

# Two of the common factors have a meaning, the others are random directions: beards
# rarely go with long hair, nor wrinkles with brown hair.
_MEANINGS = (
    {'beard_worn': 6, 'moustache_worn': 5, 'hair_length': -6, 'head_jaw': 3}
    | {'brow_thick': 3, 'brow_height': -2, 'eye_lash': -4, 'lip_red': -4},
    {'wrinkle_forehead': 4, 'wrinkle_fold': 4, 'wrinkle_eye': 4, 'hair_colour': 4}
    | {'hair_line': 2, 'eye_bag': 3, 'skin_freckle': -2},
)

# Ranges of a view's parameters, drawn independently.
_VIEW_RANGES = _ranges("""
    pose: yaw -0.42 0.42, pitch -0.24 0.24, roll -0.08 0.08, scale 0.94 1.06
    pose: x -2.2 2.2, y -2.2 2.2
    mouth: smile -0.5 1, open -1.6 1
    brow: raise -1 1, frown -1 1
    eye: open 0.62 1.15, gaze_x -1.8 1.8, gaze_y -0.7 0.9
    hair: shift -6 6, volume -3 3.5, fringe -0.4 0.4, part -6 6, phase 0 1
    hair: length -30 30, tone -0.12 0.12
    beard: shaved 0 1
    hat: worn 0 1, colour 0 1
    glasses: worn 0 1
    skin: stubble -0.18 0.18, make_up -0.5 0.5, flush -0.03 0.03
    light: x -1.1 1.1, y -1.1 0.35, ambient 0.38 0.85, gloss 0 0.22
    shadow: x -50 50, slope -1 1, depth -0.45 0.4
    colour: warmth -0.16 0.16, tint -0.05 0.05, saturation 0.55 1.25
    tone: exposure -0.4 0.36, contrast 0.8 1.2, gamma -0.3 0.3
    cloth: colour 0 1
    occluder: kind 0 1, u -40 40, v -35 55, angle -1 1, size 0 1, colour 0 1
    camera: blur -0.25 0.2, noise 0.004 0.034
""")


class Parameters(Protocol):
    """A named tuple of float32 scalars, whose fields come from a table above."""

    def __getattr__(self, name: str) -> jax.Array: ...


# Any callable to type checkers, which do not read tables.
_record: Callable[..., Any] = collections.namedtuple
Identity = _record('Identity', (*_IDENTITY_RANGES, 'spots'))
View = _record('View', (*_VIEW_RANGES, 'backdrop', 'noise_seed'))


def sample_identity(key: jax.Array) -> Parameters:
    """Draws a person. → `Identity` of float32 scalars; spots [24, 4] u, v, size, depth.

    Parameters are uniform on their ranges, and correlated by 20 common factors.
    """
    normal_key, spot_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (_LATENT + len(_IDENTITY_RANGES),))
    common = jnp.matmul(_mixing(), normal[:_LATENT], precision='highest')
    unit = jax.scipy.stats.norm.cdf(0.62**0.5 * common + 0.38**0.5 * normal[_LATENT:])
    low, high = np.array([*_IDENTITY_RANGES.values()], np.float32).T
    identity = Identity(*(low + unit * (high - low)), spots=None)
    return identity._replace(spots=_sample_spots(identity, spot_key))


def sample_view(key: jax.Array) -> Parameters:
    """Draws what differs between pictures of a person. → `View` of float32 scalars.

    `backdrop` is a grid of colours [3, 5, 4] in 0..1, `noise_seed` a uint32.
    """
    count = len(_VIEW_RANGES)
    unit = jax.random.uniform(key, (count + 6 + 3 * 5 * 4,))
    low, high = np.array([*_VIEW_RANGES.values()], np.float32).T
    values = low + unit[:count] * (high - low)
    seed, spread, vivid, *colour = unit[count : count + 6]
    base = jnp.stack(colour)[:, None, None]
    backdrop = base + 0.7 * spread * (unit[count + 6 :].reshape(3, 5, 4) - base)
    grey = jnp.mean(backdrop, axis=0)
    backdrop = grey + 0.7 * vivid * (backdrop - grey)
    return View(*values, backdrop, noise_seed=(seed * 2.0**24).astype(jnp.uint32))


def _mixing():
    """The fixed directions of the common factors, rows of unit norm."""
    shape = len(_IDENTITY_RANGES), _LATENT
    mixing = np.random.default_rng(2018).standard_normal(shape, np.float32)
    for factor, weights in enumerate(_MEANINGS):
        for name, weight in weights.items():
            mixing[list(_IDENTITY_RANGES).index(name), factor] += weight
    return mixing / np.linalg.norm(mixing, axis=1, keepdims=True)


def _sample_spots(face, key):
    """Moles (few, large, anywhere) and freckles (many, small, on cheeks and nose)."""
    u, v, size, depth = jax.random.uniform(key, (4, _SPOTS))
    mole = np.arange(_SPOTS) < _MOLES
    u = (2.0 * u - 1.0) * np.where(mole, 30.0, 25.0)
    v = np.where(mole, 14.0, 17.0) + (2.0 * v - 1.0) * np.where(mole, 34.0, 10.0)
    present = np.arange(_SPOTS) < 2.0 + (_MOLES - 2) * face.skin_mole**2
    freckle = jnp.clip(2.0 * face.skin_freckle, 0.0, 1.0) * (0.3 + 0.3 * depth)
    depth = jnp.where(mole, present * (0.5 + 0.35 * depth), freckle)
    size = jnp.where(mole, 0.9 + 0.9 * size, 0.7 + 0.5 * size)
    return jnp.stack([u, v, size, depth], axis=-1)
