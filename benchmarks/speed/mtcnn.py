"""MTCNN in JAX and in the package `mtcnn` (TensorFlow): compares faces and time.

    pip install -e '.[detect,records]'
    python -m benchmarks.speed.mtcnn --images=lfw/images

The pictures are scikit-image's astronaut and the photographs of a folder, as they are
and enlarged as in `detect.find_faces`. The two take turns at each picture, with all
cores; compilation and the loading of TensorFlow are not timed. The largest difference
is in pixels, over boxes and landmarks, from a face to the package's nearest.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import skimage

from benchmarks.measuring import markdown, time_calls, write_record
from sicnn_jax.data import detect, folders, image_files, mtcnn, runtime


def read(directory: Path, count: int) -> Iterator[np.ndarray]:
    """The astronaut, and photographs at regular intervals of a sorted folder."""
    yield skimage.data.astronaut()
    paths = sorted(folders.walk(directory, folders.PassedOver()))
    for path in paths[:: max(1, len(paths) // count)][:count]:
        yield image_files.load_image(str(directory / path))


def load_package() -> Callable[[np.ndarray], np.ndarray]:
    """The package's detector, which gives rows: number, box, score, five x, five y."""
    runtime.import_tensorflow()
    from mtcnn import MTCNN

    detector = MTCNN()

    def find(picture):
        rows = detector.detect_faces(
            picture, output_type='numpy', box_format='xyxy', fit_to_image=False
        )
        # Without candidates, the rows have fewer columns.
        return rows if rows.shape[-1] == 16 else np.zeros((0, 16))

    return find


def compare(found: mtcnn.Found, rows: np.ndarray) -> float | None:
    """The largest difference in pixels; None if the numbers of faces differ."""
    if len(rows) != len(found.boxes):
        return None
    x_then_y = found.landmarks.swapaxes(1, 2).reshape(-1, 10)
    ours = np.concatenate([found.boxes, x_then_y], axis=1)
    theirs = np.delete(rows, [0, 5], axis=1)
    # Not matched by rank, because two scores may be equal up to rounding.
    apart = np.abs(ours[:, None] - theirs).max(axis=2)
    return float(apart.min(axis=1, initial=np.inf).max(initial=0))


def measure(pictures: list[np.ndarray], package: Callable) -> dict[str, float]:
    """The figures of one row of the table."""
    differences, seconds = [], {'jax': [], 'tensorflow': []}
    for picture in pictures:
        found, rows = mtcnn.find(picture), package(picture)
        differences.append(compare(found, rows))
        seconds['jax'] += time_calls(lambda: mtcnn.find(picture).boxes, 1)  # noqa: B023
        seconds['tensorflow'] += time_calls(lambda: package(picture), 1)  # noqa: B023
    same = [each for each in differences if each is not None]
    return {
        'pictures': len(pictures),
        'as_many_faces': len(same),
        'within_a_hundredth': sum(each < 0.01 for each in same),
        'largest_difference': max(same),
        **{name: statistics.median(values) for name, values in seconds.items()},
        'ratio': statistics.median(
            theirs / ours
            for ours, theirs in zip(seconds['jax'], seconds['tensorflow'], strict=True)
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', required=True, type=Path)
    parser.add_argument('--count', type=int, default=50)
    arguments = parser.parse_args()
    photographs = list(read(arguments.images, arguments.count))
    package = load_package()
    factor = detect._SEEN / detect.SMALLEST
    views = [view for each in photographs for view, *_ in detect._views(each, factor)]
    record = {
        'as they are': measure(photographs, package),
        'enlarged': measure(views, package),
    }
    print(
        markdown(
            (
                'pictures',
                'as many faces',
                'within 0.01 px',
                'largest difference',
                'ms',
                "package's ms",
                'ratio',
            ),
            [
                (
                    name,
                    [
                        f'{row["pictures"]}',
                        f'{row["as_many_faces"]}',
                        f'{row["within_a_hundredth"]}',
                        f'{row["largest_difference"]:.2f} px',
                        f'{1000 * row["jax"]:.0f}',
                        f'{1000 * row["tensorflow"]:.0f}',
                        f'{row["ratio"]:.2f}',
                    ],
                )
                for name, row in record.items()
            ],
        )
    )
    write_record('mtcnn', record)


if __name__ == '__main__':
    main()
