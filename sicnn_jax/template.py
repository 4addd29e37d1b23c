"""The aligned face that all networks know: its size and its five points.

This module does not import JAX, since the processes that prepare data sets do not.
"""

HEIGHT, WIDTH = 112, 96

# x and y of left eye, right eye (as seen in the picture), nose, left and right mouth
# corner: the template that SphereFace, MTCNN and their descendants share.
TEMPLATE = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
