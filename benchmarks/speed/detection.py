"""How many small faces does the detector find, and how well does it align them?

    python -m benchmarks.speed.detection --images=lfw/images \\
        --landmarks=lfw/landmarks.txt

The command shrinks photographs until the aligned face would be 14, 20 and 28 pixels
high (the network takes 14 and makes 112). A face is found if the mean distance of its
landmarks to the given ones is below a quarter of the distance between the eyes. Given
landmarks may be rough (LFW's are), so the command also measures the distance to the
landmarks that the detector finds in the full photograph, if it finds the face there.
Differences are in pixels of the 96×112 face; the first line is for full photographs.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import markdown, write_record
from sicnn_jax import images
from sicnn_jax.data import align, detect, image_files
from sicnn_jax.inference.hallucinator import magnification

HEIGHTS = (14, 20, 28)
COLUMNS = (
    'found, by the given landmarks',
    'difference',
    'found, by those found in full',
    'difference',
    'other faces per photograph',
    'ms per photograph',
)
# Limits, in eye distances, for landmarks that agree and that belong to one face.
_NEAR, _SAME_FACE = 0.25, 0.5


def distance(points: np.ndarray, landmarks: np.ndarray) -> float:
    """Mean distance of five points to landmarks, in eye distances."""
    eyes = np.linalg.norm(landmarks[0] - landmarks[1])
    return float(np.linalg.norm(points - landmarks, axis=1).mean() / eyes)


def template_pixels(points: np.ndarray, landmarks: np.ndarray) -> float:
    """Mean distance of five points to landmarks, in pixels of the 96×112 face."""
    moved = np.linalg.norm(points - landmarks, axis=1).mean()
    return float(moved * magnification(landmarks))


def shrink(
    image: np.ndarray, landmarks: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in which the aligned face has this height, and factors (x, y)."""
    factor = height / images.HEIGHT * magnification(landmarks)
    size = np.array(image.shape[1::-1])
    small = np.maximum(np.rint(size * factor), 1).astype(int)
    picture = Image.fromarray(image).resize(tuple(small), Image.Resampling.BICUBIC)
    return np.asarray(picture), small / size


def nearest(
    faces: Sequence[detect.DetectedFace], landmarks: np.ndarray, within: float = _NEAR
) -> np.ndarray | None:
    """Landmarks of the found face that is nearest to these, if one is near enough."""
    points = min(
        (face.landmarks for face in faces),
        key=lambda points: distance(points, landmarks),
        default=None,
    )
    if points is None or distance(points, landmarks) >= within:
        return None
    return points


def find_all(
    photos: Sequence[tuple[np.ndarray, np.ndarray]], height: int | None
) -> tuple[list[list[detect.DetectedFace]], float]:
    """Faces of each photograph, shrunk or in full, and the seconds taken.

    Landmarks are in pixels of the full photograph.
    """
    found, seconds = [], 0.0
    for image, landmarks in photos:
        small, factor = shrink(image, landmarks, height) if height else (image, 1.0)
        start = time.perf_counter()
        faces = detect.find_faces(small)
        seconds += time.perf_counter() - start
        found.append(
            [
                dataclasses.replace(
                    face, landmarks=(face.landmarks + 0.5) / factor - 0.5
                )
                for face in faces
            ]
        )
    return found, seconds


def compare(
    found: Sequence[Sequence[detect.DetectedFace]],
    landmarks: Sequence[np.ndarray | None],
) -> dict[str, float]:
    """The share of the faces with landmarks that was found, and how far off it is."""
    wanted = [
        pair for pair in zip(found, landmarks, strict=True) if pair[1] is not None
    ]
    off = [
        template_pixels(points, truth)
        for faces, truth in wanted
        if (points := nearest(faces, truth)) is not None
    ]
    return {
        'found': len(off) / max(len(wanted), 1),
        'difference': float(np.mean(off)) if off else float('nan'),
    }


def measure(photos: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[dict]:
    """Rows of the table: photographs in full, then shrunk to each height.

    Args:
      photos: uint8 [height, width, 3] and landmarks [5, 2] of each.
    """
    given = [landmarks for _, landmarks in photos]
    detect.find_faces(photos[0][0])  # Compiles, which is not timed.
    rows, own = [], None
    for height in (None, *HEIGHTS):
        found, seconds = find_all(photos, height)
        same = [
            nearest(faces, landmarks, _SAME_FACE)
            for faces, landmarks in zip(found, given, strict=True)
        ]
        # Landmarks that are found in the full photographs, which come first.
        own = own or same
        others = sum(map(len, found)) - sum(points is not None for points in same)
        rows.append(
            {
                'height': height,
                'given': compare(found, given),
                'in_full': compare(found, own),
                'others': others / len(photos),
                'milliseconds': 1000 * seconds / len(photos),
            }
        )
        print(rows[-1], flush=True)
    return rows


def table(rows: Sequence[dict]) -> str:
    """The rows as Markdown."""
    return markdown(
        COLUMNS,
        [
            (
                f'{row["height"]} px' if row['height'] else 'in full',
                [
                    f'{row["given"]["found"]:.1%}',
                    f'{row["given"]["difference"]:.2f} px',
                    f'{row["in_full"]["found"]:.1%}',
                    f'{row["in_full"]["difference"]:.2f} px',
                    f'{row["others"]:.2f}',
                    f'{row["milliseconds"]:.0f}',
                ],
            )
            for row in rows
        ],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', required=True, type=Path)
    parser.add_argument('--landmarks', required=True, type=Path)
    parser.add_argument('--limit', type=int, default=300)
    arguments = parser.parse_args()
    landmarks = align.read_landmarks(arguments.landmarks)
    # In random order, because photographs of one person are alike.
    order = np.random.default_rng(0).permutation(sorted(landmarks))
    photos = [
        (image_files.load_image(str(arguments.images / name)), landmarks[name])
        for name in order[: arguments.limit]
    ]
    rows = measure(photos)
    print(table(rows))
    write_record('detection', {'photographs': len(photos), 'rows': rows})


if __name__ == '__main__':
    main()
