"""Procedural faces: the built-in data of the project, drawn on the device.

`parameters` describes what is drawn: an identity and a view of it. Every face is
aligned to the five-point template of 112×96 face recognition. Most details that tell
two people apart are one to six pixels wide and do not survive 8× downsampling. Colours
and outlines survive, but vary as much between the views of one person.

Distances are pixels of the aligned image. Face coordinates (u, v) have their origin
between the eyes, v pointing down; `a` is |u|, so that paired parts are drawn once.
Canvases are float [3, height, width] in 0..1.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sicnn_jax.data.procedural_faces.parameters import (
    Parameters,
    sample_identity,
    sample_view,
)
from sicnn_jax.template import HEIGHT, WIDTH

_ORIGIN = (47.9, 51.6)  # x, y of the point between the eyes, from the template

# `render_faces` draws this many faces at once; a multiple needs no second program.
AT_ONCE = 16

_Grid = collections.namedtuple('_Grid', 'x y u v a side nose_u nose_v')

# The clusters are few and close together: many people share a colour, and light moves
# it further than the distance to the next cluster.
_SKINS = ('edbd9e', 'dea885', 'c48c69', '946347')
_HAIRS = ('17120f', '2b1c14', '4d301c', '855e33', '78736e')
_IRISES = ('402412', '6b451f', '4d6b3d', '45739e')
_FRAMES = ('0f0f12', '472412', '8c806b')
_CLOTHS = ('1f212e', 'bfbfb8', '732426', '2e4d7a', '4d5c40', '9e8059')
_REDDISH = (0.75, 1.0, 1.0)  # shadows on skin keep some of the red


def render_face(identity: Parameters, view: Parameters) -> jax.Array:
    """Draws one picture. → float32 [112, 96, 3], RGB in 0..255, not rounded."""
    grid = _grid(view)
    skin = _pick(_SKINS, identity.skin_tone)
    hair = _pick(_HAIRS, identity.hair_colour + view.hair_tone)
    skin += identity.skin_shade + view.skin_flush * _floats([0.3, 1.0, 1.1])
    outline = _kept(_head_distance(identity, grid))
    canvas = jax.image.resize(view.backdrop, (3, HEIGHT, WIDTH), 'cubic')
    canvas = _hair_behind(canvas, identity, view, grid, outline, hair)
    canvas = _body(canvas, identity, view, grid, skin)
    canvas = _head(canvas, identity, grid, skin, outline)
    canvas = _marks(canvas, identity, view, grid)
    canvas = _beard(canvas, identity, view, grid, outline, hair)
    canvas = _nose(canvas, identity, grid)
    canvas = _mouth(canvas, identity, view, grid, skin)
    canvas = _wrinkles(canvas, identity, view, grid)
    canvas = _eye(canvas, identity, view, grid, skin)
    canvas = _brow(canvas, identity, view, grid, hair)
    canvas = _shade(canvas, identity, view, grid, outline)
    canvas = _glasses(canvas, identity, view, grid)
    canvas = _hair_front(canvas, identity, view, grid, outline, hair)
    canvas = _occluder(canvas, view, grid, skin, hair)
    canvas = _camera(canvas, view, grid)
    return 255.0 * jnp.clip(jnp.moveaxis(canvas, 0, -1), 0.0, 1.0)


def render_faces(
    seed: int | jax.Array,
    identities: ArrayLike,
    images: ArrayLike,
    misalignment: float = 0.0,
) -> jax.Array:
    """Draws pictures, each a function of (seed, identity, image) alone.

    Args:
      seed: an int or int32 scalar; another seed gives another population.
      identities: int32 [n], which person.
      images: int32 [n], which picture of that person.
      misalignment: 0: aligned to the template; 1: turned by up to 0.35 radians, scaled
        by a fifth and moved by 8 pixels beyond that. A static number.

    Returns:
      uint8 [n, 112, 96, 3], RGB.
    """
    root = jax.random.key(seed, impl='threefry2x32')

    def render(index):
        person_key, views_key = jax.random.split(jax.random.fold_in(root, index[0]))
        view_key = jax.random.fold_in(views_key, index[1])
        view = sample_view(view_key)
        if misalignment:
            view = _misalign(view, jax.random.fold_in(view_key, 1), misalignment)
        face = render_face(sample_identity(person_key), view)
        return jnp.round(face).astype(jnp.uint8)

    indices = jnp.stack([jnp.asarray(identities), jnp.asarray(images)], axis=-1)
    return jax.lax.map(render, indices, batch_size=AT_ONCE)


def _misalign(view, key, amount):
    """The view as framed by a face detector's box instead of landmarks."""
    roll, scale, x, y = amount * jax.random.uniform(key, (4,), minval=-1.0)
    return view._replace(
        pose_roll=view.pose_roll + 0.35 * roll,
        pose_scale=view.pose_scale * (1.0 + 0.2 * scale),
        pose_x=view.pose_x + 8.0 * x,
        pose_y=view.pose_y + 8.0 * y,
    )


def _floats(values):
    """A small float32 array; to a type checker, `np.float32` of a list is a scalar."""
    return np.array(values, np.float32)


def _cover(distance, softness=1.0):
    """Coverage 0..1 of a shape from its signed distance, negative inside."""
    return jnp.clip(0.5 - distance / softness, 0.0, 1.0)


def _blob(u, v, width, height):
    """A soft spot: 1 in the middle, and 0 outside the ellipse."""
    inside = jnp.maximum(1.0 - (u / width) ** 2 - (v / height) ** 2, 0.0)
    return inside * inside


def _wave(turns):
    """A sine of `turns` made of parabolas: exp and sin would dominate on CPU."""
    turns = turns - jnp.round(turns)
    return 8.0 * turns * (1.0 - 2.0 * jnp.abs(turns))


def _kept(plane):
    """The plane itself, stored: XLA's CPU compiler drops optimisation barriers and
    would draw a fused plane again for each use and channel, 16 times slower in all,
    but it never repeats a division."""
    return jax.tree.map(lambda x: x / (1.0 + 0.0 * x), plane)


def _paint(canvas, mask, colour, tone=1.0):
    """Covers the canvas with a colour [3], varied by a plane `tone`."""
    colour = jnp.asarray(colour, jnp.float32)[:, None, None]
    return canvas + _kept(mask) * (colour * tone - canvas)


def _darken(canvas, amount, tint=_REDDISH):
    return canvas * (1.0 - _kept(amount) * _floats(tint)[:, None, None])


def _pick(table, unit):
    """A row of the table for `unit` in 0..1: tight clusters, slightly spread."""
    colours = _floats([list(bytes.fromhex(row)) for row in table]) / 255.0
    place = jnp.clip(unit, 0.0, 0.9999) * len(table)
    row = jnp.asarray(colours)[place.astype(jnp.int32)]
    return row * (0.94 + 0.12 * (place - jnp.floor(place)))


def _depth(u, v):
    """How far the face stands out of the plane through the eyes."""
    across = jnp.minimum(u * u / 1600.0, 1.4)
    return 6.0 - 27.0 * across - 8.0 * jnp.minimum(((v - 14.0) / 45.0) ** 2, 1.5)


def _grid(view):
    """Face coordinates of every pixel, under the view's pose."""
    y, x = jnp.mgrid[:HEIGHT, :WIDTH].astype(jnp.float32)
    y, x = y - _ORIGIN[1], x - _ORIGIN[0]
    right = (x - view.pose_x) / view.pose_scale
    down = (y - view.pose_y - 20.0) / view.pose_scale
    cos, sin = jnp.cos(view.pose_roll), jnp.sin(view.pose_roll)
    right, down = cos * right + sin * down, cos * down - sin * right + 20.0
    u, v = right, down
    for _ in range(2):  # the parallax is small, so two fixed-point steps are enough
        depth = _depth(u, v)
        u, v = right - view.pose_yaw * depth, down - view.pose_pitch * depth
    rise = jnp.clip(v / 18.0, 0.0, 1.0)  # the nose stands out further
    nose_u, nose_v = u - 10.0 * view.pose_yaw * rise, v - 9.0 * view.pose_pitch * rise
    return _kept(_Grid(x, y, u, v, jnp.abs(u), jnp.sign(u), nose_u, nose_v))


def _head_distance(face, grid):
    """Signed distance to the outline of the head, to first order."""
    below = grid.v > 2.0
    length = jnp.where(below, face.head_chin - 2.0, 58.0)
    square = jnp.where(below, face.head_jaw, 0.2)
    t, across = (grid.v - 2.0) / length, grid.a / face.head_width
    level = across * across + t * t * (1.0 - square + square * t * t) - 1.0
    slope_u = across / face.head_width
    slope_v = t * (1.0 - square + 2.0 * square * t * t) / length
    return 0.5 * level * jax.lax.rsqrt(slope_u**2 + slope_v**2 + 1e-5)


def _body(canvas, face, view, grid, skin):
    """Ears, neck and clothes."""
    ear_u, ear_v = grid.a - face.head_width - 0.5, (grid.v - 8.0) / 2.1
    ear = _cover(jnp.sqrt(ear_u**2 + ear_v**2 + 0.01) - face.ear_size * 0.75, 1.5)
    canvas = _paint(canvas, ear, skin * _floats([0.93, 0.82, 0.78]))
    neck = _cover(grid.a - 0.68 * face.head_width) * (grid.v > 20.0)
    canvas = _paint(canvas, neck, skin * _floats([0.66, 0.6, 0.58]))
    cloth = _cover(62.0 - 0.35 * (grid.a - 20.0) - grid.v)
    return _paint(canvas, cloth * (grid.v > 40.0), _pick(_CLOTHS, view.cloth_colour))


def _head(canvas, face, grid, skin, outline):
    """Bare skin and its soft parts: blush, sockets, chin."""
    canvas = _paint(canvas, _cover(outline, 1.3), skin)
    red = _blob(grid.a - 21.0, grid.v - 22.0, 13.0, 11.0) * (0.35 * face.skin_blush)
    red += 0.5 * _blob(grid.nose_u, grid.nose_v - 18.0, 10.0, 9.0)
    canvas = _darken(canvas, red, [0.02, 0.14, 0.13])
    dark = 0.24 * _blob(grid.a - face.eye_spacing + 1.0, grid.v + 2.0, 15.0, 11.0)
    chin_v = grid.v - face.head_chin + 9.0
    cleft = _blob(grid.u, chin_v, 1.3, 5.0) * jnp.maximum(face.head_cleft, 0.0)
    dark += 0.14 * _blob(grid.u, chin_v + 6.5, 11.0, 3.5)
    return _darken(canvas, dark + 0.35 * cleft)


def _marks(canvas, face, view, grid):
    """Moles and freckles, separable and so one small product, and a scar."""
    u, v, size, dark = face.spots.T
    depth = _depth(u, v)  # from here to x and y, the inverse of `_grid`
    right, down = u + view.pose_yaw * depth, v + view.pose_pitch * depth - 20.0
    cos, sin = jnp.cos(view.pose_roll), jnp.sin(view.pose_roll)
    x = (cos * right - sin * down) * view.pose_scale + view.pose_x
    y = (cos * down + sin * right) * view.pose_scale + view.pose_y + 20.0
    across = jnp.exp(-(((grid.x[0][:, None] - x) / size) ** 2))
    down = jnp.exp(-(((grid.y[:, :1] - y) / size) ** 2))
    spots = jnp.minimum(jnp.matmul(down * dark, across.T, precision='highest'), 0.85)
    canvas = _paint(canvas, spots, [0.28, 0.15, 0.1])
    cos, sin = jnp.cos(face.scar_angle), jnp.sin(face.scar_angle)
    u, v = grid.u - face.scar_u, grid.v - face.scar_v
    line = _blob(cos * u + sin * v, cos * v - sin * u, 8.0, 1.4)
    return _darken(canvas, 0.45 * (face.scar_worn > 0.82) * line, [1.0, 1.0, 1.0])


def _beard(canvas, face, view, grid, outline, hair):
    """Beard, goatee and moustache, from stubble to full."""
    mouth = grid.v - face.mouth_height
    cheek_line = 6.0 + 16.0 * face.beard_line - 0.022 * grid.a**2
    around = jnp.sqrt(grid.u**2 + (1.3 * (mouth - 9.0)) ** 2 + 0.01)
    wide = _cover(cheek_line - mouth - 10.0, 3.0)
    chin = _cover(around - 9.0 - 5.0 * face.beard_line, 3.0)
    beard = jnp.where(face.beard_chin > 0.55, chin, wide) * (face.beard_worn > 0.66)
    beard *= 1.0 - jnp.minimum(1.8 * _blob(grid.u, mouth - 1.0, 19.0, 9.5), 1.0)
    curve = mouth + 6.5 + 0.012 * grid.u**2 - 0.04 * face.moustache_width
    half = face.moustache_thick * (1.0 - (grid.a / face.moustache_width) ** 2)
    lip = _cover(jnp.abs(curve) - half) * (1.0 - 0.5 * _blob(grid.u, curve, 2.0, 5.0))
    lip *= (face.moustache_worn > 0.7) & (face.beard_worn > 0.4)
    mask = jnp.maximum(beard, lip) * _cover(outline - 1.0, 2.0)
    density = 0.35 + 0.6 * face.beard_length + view.skin_stubble
    density *= jnp.where(view.beard_shaved > 0.85, 0.3, 1.0)
    stubble = density + 0.16 * _noise(view.noise_seed + 1)[0]
    return _paint(canvas, mask * jnp.clip(stubble, 0.0, 0.96), 1.1 * hair + 0.02)


def _nose(canvas, face, grid):
    """Nostrils, wings, the shadow below and the bridge's edges."""
    u = grid.nose_u - face.nose_bend * jnp.clip(grid.nose_v / 20.0, 0.0, 1.0)
    a, v = jnp.abs(u), grid.nose_v - face.nose_length
    width = face.nose_width
    wing = jnp.sqrt((a - width + 2.2) ** 2 + (v + 0.8) ** 2 + 0.01) - 3.0
    crease = _cover(jnp.abs(wing) - 0.3) * _blob(a - width - 0.8, v + 0.3, 3.0, 3.4)
    below = _blob(u, v - 3.2, width + 1.5, 3.0) * (v > 0.0)
    slope = 0.25 * (a - face.nose_bridge - 0.11 * (v + face.nose_length))
    bridge = jnp.maximum(1.0 - slope**2, 0.0) * _cover(jnp.abs(v + 9.0) - 8.0, 10.0)
    tip = _cover(jnp.abs(v - 0.15 * a - 0.9) - 0.4) * _cover(a - face.nose_tip, 2.0)
    canvas = _darken(canvas, 0.8 * crease + 0.3 * below + 0.1 * bridge + 0.32 * tip)
    hole_u = (a - face.nostril_gap) / face.nostril_width
    hole = hole_u**2 + ((v - 0.2 * a) / face.nostril_height) ** 2
    return _paint(canvas, 0.85 * _cover((hole - 1.0) * 0.6), [0.2, 0.09, 0.07])


def _mouth(canvas, face, view, grid, skin):
    """Lips, the line between them, and teeth where the mouth is open."""
    smile, opening = view.mouth_smile, 4.5 * jnp.maximum(view.mouth_open, 0.0)
    width = face.mouth_width + 1.8 * smile
    t = grid.a / width
    corner = (face.mouth_corner + 2.6 * smile) * t * t
    v = grid.v - face.mouth_height - face.mouth_tilt * grid.u + corner
    inside = jnp.maximum(1.0 - t * t, 0.0)
    notch = face.lip_bow * _blob(grid.u, 0.0, 5.0, 1.0)
    top = -face.lip_upper * jnp.sqrt(inside) * (1.0 - 0.25 * t) + notch
    gap = opening * inside
    bottom = gap + (face.lip_lower - 0.8 * smile) * inside
    lips = _cover(jnp.maximum(top - v, v - bottom), 1.2) * _cover((t - 1.0) * 8.0)
    red = 0.35 + 0.35 * face.lip_red + 0.15 * view.skin_make_up
    colour = skin * (1.0 - red * _floats([0.2, 0.75, 0.62]))
    gloss = 1.0 + 0.3 * _blob(grid.u, v - gap - 0.45 * face.lip_lower, 8.0, 1.6)
    canvas = _paint(canvas, lips, colour, _kept(jnp.where(v < 0.5 * gap, 0.84, gloss)))
    hollow = _cover(jnp.maximum(-v, v - gap)) * (inside > 0.0) * (opening > 0.3)
    canvas = _paint(canvas, hollow, [0.22, 0.06, 0.06])
    teeth = hollow * _cover(v - 0.6 * gap, 1.5) * _cover(grid.a - 0.75 * width, 3.0)
    canvas = _paint(canvas, teeth, [0.9, 0.87, 0.8])
    line = _cover(jnp.abs(v) - 0.35) * _cover((t - 1.04) * 8.0)
    pit = _blob(grid.a - width, v, 2.2, 1.8)
    philtrum = _blob(grid.u, v + face.lip_upper + 3.5, 1.8, 4.0)
    return _darken(canvas, 0.6 * line * (opening < 1.5) + 0.3 * pit + 0.12 * philtrum)


def _wrinkles(canvas, face, view, grid):
    """Forehead lines, folds from nose to mouth, crow's feet and bags."""
    rows = jnp.maximum(_wave((grid.v + 0.005 * grid.u**2) / 5.0) - 0.55, 0.0)
    rows *= jnp.maximum(face.wrinkle_forehead + 0.3 * view.brow_raise, 0.0)
    rows *= _blob(grid.u, grid.v + 25.0, 26.0, 11.0)
    t = (grid.v - face.nose_length + 2.0) / 18.0
    smile = jnp.maximum(view.mouth_smile, 0.0)
    fold_a = face.nose_width + 1.5 + (9.0 + 2.0 * smile) * t * (1.4 - 0.5 * t)
    fold = _cover(jnp.abs(grid.a - fold_a) - 0.5, 2.0) * jnp.maximum(4 * t * (1 - t), 0)
    fold *= jnp.maximum(face.wrinkle_fold, 0.0) + 0.5 * smile
    out = jnp.maximum(grid.a - face.eye_spacing - face.eye_width, 0.0)
    feet = jnp.maximum(_wave((grid.v - 1.0) / (2.0 + 0.35 * out)) - 0.3, 0.0)
    feet *= _blob(out - 4.6, grid.v, 4.5, 6.0) * jnp.maximum(face.wrinkle_eye, 0.0)
    bag_a = grid.a - face.eye_spacing + 1.0
    bag = _blob(bag_a, grid.v - 6.5 + 0.05 * bag_a**2, 8.0, 1.7) * face.eye_bag
    return _darken(canvas, 0.6 * rows + 0.33 * fold + 0.6 * feet + 0.34 * bag)


def _eye(canvas, face, view, grid, skin):
    """White, iris, pupil, glint, lids, lashes and crease of both eyes."""
    e = grid.a - face.eye_spacing
    v = grid.v + face.eye_slant * e
    t = e / face.eye_width
    arc = 1.0 - t * t
    upper = -face.eye_upper * view.eye_open * arc * (1.0 + face.eye_peak * t)
    lower = face.eye_lower * arc * (1.0 - 0.25 * view.mouth_smile) * (1.0 + 0.2 * t)
    near = _cover((jnp.abs(t) - 1.0) * 5.0, 2.0)
    open_eye = _cover(jnp.maximum(upper - v, v - lower)) * (arc > 0.0)
    canvas = _paint(canvas, open_eye, [0.86, 0.83, 0.81])
    iris_u, iris_v = e - grid.side * view.eye_gaze_x, v + 0.4 - view.eye_gaze_y
    radius = jnp.sqrt(iris_u**2 + iris_v**2 + 0.01)
    iris = _pick(_IRISES, face.iris_colour)
    ring = _kept(1.25 - 0.75 * jnp.clip(radius - face.iris_radius + 1.6, 0.0, 1.0))
    canvas = _paint(canvas, open_eye * _cover(radius - face.iris_radius), iris, ring)
    canvas = _paint(canvas, open_eye * _cover(radius - 1.35), [0.03, 0.03, 0.03])
    glint = _blob(iris_u + 1.2 * grid.side, iris_v + 1.2, 1.6, 1.5)
    canvas = _paint(canvas, open_eye * glint, [1.0, 1.0, 1.0])
    shadow = open_eye * _cover(v - upper - 1.0, 2.0) * 0.4
    lash = near * _cover(jnp.abs(v - upper + 0.3) - face.eye_lash * (0.6 + 0.35 * t))
    lid = near * _cover(jnp.abs(v - lower) - 0.3) * 0.4
    away = jnp.abs(v - upper + face.eye_crease * (0.65 + 0.35 * arc))
    crease = near * _cover(away - 0.35) * (0.6 * face.eye_fold)
    inner = _blob(e + face.eye_width, v, 2.2, 1.6) * 0.3
    canvas = _darken(canvas, shadow + lid + crease + inner, [1.0, 1.0, 1.0])
    return _paint(canvas, 0.9 * lash, 0.18 * skin * _floats([1.0, 0.8, 0.7]))


def _brow(canvas, face, view, grid, hair):
    t = (grid.a - face.brow_inner) / face.brow_length
    raised = 1.6 * view.brow_raise + face.brow_tilt * grid.side
    frown = 1.6 * view.brow_frown * (1.0 - t) * (t < 1.0)
    angle = face.brow_angle * face.brow_length * (t - 0.5)
    arch = face.brow_arch * (1.0 - 4.0 * (t - 0.62) ** 2)
    centre = frown - face.brow_height - raised - arch - angle
    half = face.brow_thick * (1.0 - face.brow_taper * t * t)
    ends = jnp.minimum(t * 7.0 + 0.3, (1.0 - t) * 5.0)
    distance = jnp.abs(grid.v - centre) - half * jnp.clip(ends, 0.0, 1.0)
    strands = 0.1 * _wave(0.3 * grid.a + 0.2 * (grid.v - centre))
    mask = _cover(distance, 1.4) * jnp.clip(ends + 0.2, 0.0, 1.0)
    mask *= jnp.clip(face.brow_density + strands, 0.0, 0.95)
    return _paint(canvas, mask, 0.75 * hair + 0.02)


def _shade(canvas, face, view, grid, outline):
    """Light on a pseudo-normal map: an ellipsoid with nose, lips, cheeks and brow."""
    nx, ny = grid.u / (1.12 * face.head_width), (grid.v - 6.0) / 72.0
    u, v = grid.nose_u, grid.nose_v - face.nose_length
    nx = nx + 0.16 * u * _blob(u, v + 6.0, face.nose_width + 3.0, 17.0)
    ny = ny + 0.13 * (v + 3.5) * _blob(u, v + 2.5, face.nose_width, 6.5)
    v = grid.v - face.mouth_height - 0.5
    ny = ny - 0.5 * _wave(v / 16.0) * _blob(grid.u, v - 0.5, face.mouth_width, 7.0)
    cheek_u, cheek_v = grid.a - 23.0, grid.v - 17.0
    cheek = 0.035 * face.head_cheek * _blob(cheek_u, cheek_v, 14.0, 12.0)
    nx = nx + cheek * cheek_u * grid.side
    ny = ny + cheek * cheek_v + 0.35 * _blob(grid.u, grid.v + 6.0, 34.0, 7.0)
    nz = jnp.sqrt(jnp.maximum(1.0 - nx * nx - ny * ny, 0.06))
    scale = jax.lax.rsqrt(view.light_x**2 + view.light_y**2 + 1.0)
    facing = jnp.maximum(nx * view.light_x + ny * view.light_y + nz, 0.0) * scale
    shade = 1.15 * facing + view.light_ambient * (0.75 + 0.25 * nz - facing)
    rim = 1.0 - 0.25 * _cover(-outline - 1.0, 4.0)
    gloss = view.light_gloss * jnp.maximum(facing - 0.86, 0.0) * 7.0
    mask = _cover(outline, 1.3)
    lit = _kept(1.0 + mask * (shade * rim - 1.0))
    return canvas * lit + _kept(mask * gloss * gloss)


def _glasses(canvas, face, view, grid):
    """Frames, bridge and temples; now and then left off, or darkened."""
    worn = view.glasses_worn > jnp.where(face.glasses_worn > 0.65, 0.13, 0.95)
    dark = worn * jnp.where(view.glasses_worn > 0.97, 0.85, 0.05)
    e = (grid.a - face.eye_spacing - 0.6) / face.glasses_width
    v = (grid.v - face.glasses_drop) / face.glasses_height
    e2, v2 = e * e, v * v
    square = face.glasses_square
    level = (1.0 - square) * (e2 + v2) + square * (e2**3 + v2**3)
    slope_e = e * (1.0 - square + 3.0 * square * e2 * e2) / face.glasses_width
    slope_v = v * (1.0 - square + 3.0 * square * v2 * v2) / face.glasses_height
    distance = 0.5 * (level - 1.0) * jax.lax.rsqrt(slope_e**2 + slope_v**2 + 1e-5)
    canvas = _paint(canvas, dark * _cover(distance), [0.05, 0.05, 0.06])
    glare = _cover(distance) * _cover(jnp.abs(e + v + 0.6 * grid.side) - 0.1, 0.2)
    canvas = canvas + _kept(0.12 * worn * glare)
    bar_v = grid.v - face.glasses_drop + 0.25 * face.glasses_height
    bridge = _cover(jnp.abs(bar_v + 1.5 - 0.03 * grid.a**2) - 0.6) * (e < -0.92)
    arm = _cover(jnp.abs(bar_v) - 0.8) * (e > 0.95) * (grid.a < 38.0)
    frame = _cover(jnp.abs(distance) - face.glasses_frame)
    frame = jnp.maximum(jnp.maximum(bridge, arm), frame)
    return _paint(canvas, 0.92 * worn * frame, _pick(_FRAMES, face.glasses_colour))


def _strand(face, grid, angle):
    """Light and dark strands, -1.6 to 1.6, straight or wavy."""
    wave = face.hair_wave * 0.3 * _wave(grid.v / 19.0 + 0.02 * grid.u)
    return _wave(angle + wave) + 0.6 * _wave(2.3 * angle + 1.4 * wave + 0.3)


def _strands(canvas, mask, grid, strand, hair):
    sheen = _blob(grid.u, grid.v + 42.0, 40.0, 16.0)
    tone = 0.85 + 0.2 * strand + 0.35 * sheen
    return _paint(canvas, mask, hair + 0.02, _kept(tone))


def _hair_behind(canvas, face, view, grid, outline, hair):
    volume = face.hair_volume + view.hair_volume
    fall = jnp.where(grid.v > 0.0, grid.a - face.head_width - volume, outline - volume)
    mask = _cover(fall, 1.5) * _cover(grid.v - face.hair_length - view.hair_length, 6.0)
    mask *= face.hair_line < 42.0
    strand = _strand(face, grid, 0.22 * grid.u)
    return _strands(canvas, mask, grid, strand, 0.75 * hair)


def _hair_front(canvas, face, view, grid, outline, hair):
    """Hairline, parting or fringe, temples; a hat over it in a few pictures."""
    volume = face.hair_volume + view.hair_volume
    line = face.hair_line + view.hair_shift
    fringe = jnp.clip(face.hair_fringe + view.hair_fringe, 0.0, 1.0)
    aside = grid.u - face.hair_part - view.hair_part
    swept = jnp.minimum(0.25 * jnp.abs(aside), 9.0)
    angle = 0.15 * aside + 0.03 * grid.v * jnp.sign(aside)
    strand = _strand(face, grid, angle)
    jag = 1.5 * _wave(0.06 * grid.u + view.hair_phase) + strand
    temple = jnp.maximum(grid.a - 24.0, 0.0)
    reach = -line + fringe * swept + jag * (0.3 + fringe) + 0.33 * temple * temple
    reach = jnp.minimum(reach, 8.0 + 0.2 * face.hair_length)
    mask = _cover(grid.v - reach, 3.0) * _cover(outline - volume, 1.5)
    shadow = _cover(grid.v - reach - 2.0, 5.0) * _cover(outline)
    canvas = _darken(canvas, 0.3 * shadow, [1.0, 1.0, 1.0])
    canvas = _strands(canvas, mask, grid, strand, hair)
    brim = -24.0 + 0.008 * grid.u**2
    hat = _cover(jnp.maximum(grid.v - brim, outline - 6.0), 1.5)
    knit = 0.9 + 0.12 * _wave(0.2 * grid.u) + 0.2 * _cover(brim - 6.0 - grid.v)
    hat *= view.hat_worn > 0.9
    return _paint(canvas, hat, _pick(_CLOTHS, view.hat_colour), _kept(knit))


def _occluder(canvas, view, grid, skin, hair):
    """A hand, a strand of hair, a scarf or a block, in a sixth of the pictures."""
    kind = (view.occluder_kind * 25.0).astype(jnp.int32)  # 0 to 3 are drawn
    cloth = _pick(_CLOTHS, view.occluder_colour)
    colour = jnp.stack([0.85 * skin, hair, cloth, cloth])[kind.clip(0, 3)]
    shapes = [[7, 12, 1, 48, 0, 0.6], [1.1, 45, 0.8, -10, 0, 0.5]]
    shapes += [[70, 14, 0, 66, 0, 0.15], [6, 9, 1, 0, 1, 0.8]]
    half_u, half_v, move_u, at_v, move_v, turn = jnp.asarray(_floats(shapes))[
        kind.clip(0, 3)
    ]
    size = 0.6 + 0.8 * view.occluder_size
    half_u, half_v, angle = half_u * size, half_v * size, turn * view.occluder_angle
    u = grid.x - move_u * view.occluder_u
    v = grid.y - at_v - move_v * view.occluder_v
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    bend = 0.012 * v * v * (kind == 1)
    radius = 0.9 * jnp.minimum(half_u, half_v)
    across = jnp.maximum(jnp.abs(cos * u + sin * v + bend) - half_u + radius, 0.0)
    along = jnp.maximum(jnp.abs(cos * v - sin * u) - half_v + radius, 0.0)
    mask = _cover(jnp.sqrt(across**2 + along**2 + 0.01) - radius, 2.0) * (kind < 4)
    texture = 0.94 + 0.1 * _wave(0.13 * u + 0.05 * v)
    return _paint(canvas, 0.95 * mask, colour, _kept(texture))


def _camera(canvas, view, grid):
    """A cast shadow, white balance, exposure, tone, blur and noise."""
    edge = _cover(grid.x - view.shadow_x + view.shadow_slope * grid.y, 14.0)
    gain = 1.0 - jnp.maximum(view.shadow_depth, 0.0) * edge
    warmth = view.colour_warmth
    light = 1.0 + jnp.stack([warmth, view.colour_tint, -warmth])[:, None, None]
    canvas = canvas * gain * light * (1.0 + view.tone_exposure)
    grey = jnp.mean(canvas, axis=0)
    canvas = grey + view.colour_saturation * (canvas - grey)
    canvas = jnp.clip(0.5 + view.tone_contrast * (canvas - 0.5), 0.0, 1.0)
    canvas = _kept(canvas + view.tone_gamma * canvas * (1.0 - canvas))
    wide = jnp.pad(canvas, ((0, 0), (1, 1), (1, 1)), 'edge')
    around = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2]
    around += wide[:, 1:-1, 2:] - 4.0 * canvas
    canvas = canvas + jnp.maximum(view.camera_blur, 0.0) * around
    return canvas + view.camera_noise * _noise(view.noise_seed)


def _noise(seed):
    """Noise [3, 112, 96] in -1..1 by hashing pixel numbers: cheaper than threefry."""
    bits = jnp.arange(HEIGHT * WIDTH, dtype=jnp.uint32).reshape(HEIGHT, WIDTH)
    bits = (bits + seed) * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA77)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE3D)
    shifts = jnp.arange(3, dtype=jnp.uint32)[:, None, None] * jnp.uint32(10)
    channels = (bits >> shifts) & jnp.uint32(1023)
    return channels.astype(jnp.float32) * np.float32(2.0 / 1023.0) - 1.0
