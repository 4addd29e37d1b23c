"""Pictures as cameras and programs write them: colours, orientation, size."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from sicnn_jax import pictures
from sicnn_jax.data import decoding, image_files, records
from sicnn_jax.data.records import DatasetError
from tests.data import colour_profiles

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 20, 3), np.uint8)


def load(image, encoding='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return image_files.load_image(buffer.getvalue(), 'x')


def in_srgb(pixels, primaries, gamma):
    """Colours of another RGB as levels of sRGB; by the definition of both."""
    linear = (pixels / 255) ** gamma
    linear = linear @ (np.linalg.inv(colour_profiles.SRGB) @ primaries).T
    linear = np.clip(linear, 0, 1)
    steep = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, steep)


def test_colours_of_another_profile_become_those_of_srgb():
    profile = colour_profiles.rgb(colour_profiles.WIDE, 2.2)
    expected = in_srgb(PIXELS, colour_profiles.WIDE, 2.2)
    assert np.abs(expected - PIXELS).mean() > 5
    made = load(Image.fromarray(PIXELS), icc_profile=profile)
    np.testing.assert_allclose(made, expected, atol=1.5)
    # Transparent parts are white whatever the profile, the others converted.
    opacity = Image.new('L', (20, 24), 255)
    opacity.paste(0, (0, 0, 20, 12))
    image = Image.fromarray(PIXELS)
    image.putalpha(opacity)
    made = load(image, icc_profile=profile)
    assert made[:12].min() == 255
    np.testing.assert_allclose(made[12:], expected[12:], atol=1.5)


def test_colours_of_palettes_and_grey_are_converted():
    profile = colour_profiles.rgb(colour_profiles.WIDE, 2.2)
    palette = Image.new('RGB', (5, 4), (10, 200, 30)).quantize(2)
    (colour,) = np.unique(np.asarray(palette.convert('RGB')).reshape(-1, 3), axis=0)
    expected = in_srgb(colour, colour_profiles.WIDE, 2.2)
    made = load(palette, icc_profile=profile)
    np.testing.assert_allclose(made, np.broadcast_to(expected, made.shape), atol=1.5)
    grey = Image.fromarray(PIXELS[..., 0])
    expected = in_srgb(PIXELS[..., :1].repeat(3, -1), colour_profiles.SRGB, 1.6)
    made = load(grey, icc_profile=colour_profiles.grey(1.6))
    np.testing.assert_allclose(made, expected, atol=2.5)
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    made = load(deep, icc_profile=colour_profiles.grey(1.6))
    np.testing.assert_allclose(made, expected, atol=2.5)


def test_inks_are_those_of_the_profile():
    image = Image.new('CMYK', (4, 1))
    image.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 0, 0)])
    made = load(image, 'TIFF', icc_profile=colour_profiles.inks())
    # L* = 50 is level 119.
    grey = np.repeat(np.array([255, 0, 119, 255])[:, None], 3, axis=1)
    np.testing.assert_allclose(made[0].astype(int), grey, atol=2)
    assert load(image, 'TIFF')[0, 2].tolist() == [0, 255, 255]


def test_what_is_srgb_already_stays_to_the_bit(monkeypatch):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    image = Image.fromarray(PIXELS)
    assert decoding._to_srgb(profile, 'RGB') is None
    decoding._to_srgb.cache_clear()
    for given in (
        {'icc_profile': profile},
        {},
        {'icc_profile': b'no profile'},
        {'icc_profile': profile[:300]},
        # Of another kind of image.
        {'icc_profile': colour_profiles.grey(1.0)},
    ):
        np.testing.assert_array_equal(load(image, **given), PIXELS)
    # A profile is looked at once, not for each picture.
    load(image, icc_profile=profile)
    assert decoding._to_srgb.cache_info().hits == 1


def test_written_pictures_say_that_they_are_srgb(tmp_path):
    pictures.save(tmp_path / 'a.png', Image.fromarray(PIXELS))
    with Image.open(tmp_path / 'a.png') as image:
        assert image.info['srgb'] == 0
        np.testing.assert_array_equal(np.asarray(image), PIXELS)


def with_exif(entries):
    """A JPEG with EXIF entries of tag, type, count and value."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, 'JPEG')
    tiff = b'II*\0\x08\0\0\0' + struct.pack('<H', len(entries))
    tiff += b''.join(struct.pack('<HHII', *entry) for entry in entries) + bytes(4)
    segment = b'Exif\0\0' + tiff
    size = struct.pack('>H', len(segment) + 2)
    return b'\xff\xd8\xff\xe1' + size + segment + buffer.getvalue()[2:]


def test_every_orientation_is_as_pillow_has_it():
    for orientation in range(10):
        content = with_exif([(0x0112, 3, 1, orientation)])
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(image_files.load_image(content), expected)


def test_exif_that_cannot_be_written_again_is_no_fault():
    make = (0x010F, 5, 1, 8)  # The camera's name as a fraction.
    found = image_files.load_image(with_exif([make, (0x0112, 3, 1, 6)]))
    upright = image_files.load_image(with_exif([]))
    np.testing.assert_array_equal(found, np.rot90(upright, -1))


def test_large_jpegs_are_read_at_half_their_size(monkeypatch):
    coarse = Image.fromarray(PIXELS[:5, :4])
    smooth = coarse.resize((161, 120), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    smooth.save(buffer, 'JPEG', quality=98, subsampling=0)
    whole = image_files.load_picture(buffer.getvalue())
    assert whole.reduced == 1
    points = RNG.uniform(10, 100, (5, 2))
    np.testing.assert_array_equal(whole.from_file(points), points)
    monkeypatch.setattr(records, 'MAX_PIXELS', 161 * 120 - 1)
    # Not even where Pillow itself would refuse it.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    half = image_files.load_picture(buffer.getvalue())
    assert (half.reduced, half.pixels.shape) == (2, (60, 81, 3))
    blocks = whole.pixels[:, :160].reshape(60, 2, 80, 2, 3).mean((1, 3))
    np.testing.assert_allclose(half.pixels[:, :80], blocks, atol=6)
    # The middle of the first block of 2×2 pixels.
    np.testing.assert_array_equal(half.from_file(np.array([[0.5, 0.5]])), [[0, 0]])
    np.testing.assert_allclose(half.to_file(half.from_file(points)), points)


def test_what_is_too_large_is_refused_with_the_limit(monkeypatch):
    monkeypatch.setattr(records, 'MAX_PIXELS', 5000)
    monkeypatch.setattr(decoding, 'decode', pytest.fail)
    for encoding, size in (('JPEG', (200, 101)), ('PNG', (100, 51))):
        buffer = io.BytesIO()
        Image.new('RGB', size).save(buffer, encoding)
        expected = rf'{size[0]}×{size[1]} pixels, .* 5,000 .* JPEG 20,000.*smaller'
        with pytest.raises(DatasetError, match=expected):
            image_files.load_image(buffer.getvalue(), 'x')
