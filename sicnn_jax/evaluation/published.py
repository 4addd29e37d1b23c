"""The paper's figures, to compare with the measurements here.

Accuracies on LFW and YTF are over all ten folds, by a CNNR trained on faces of the
method.
"""

from collections.abc import Mapping


def _row(*figures: float) -> Mapping[str, float]:
    """Figures by column; the paper leaves the first columns of some rows empty."""
    columns = ('psnr', 'ssim', 'identity_similarity', 'lfw', 'ytf')
    return dict(zip(columns[-len(figures) :], figures, strict=True))


# Scale → method → column. HR: Table 6; L_SR only is α = 0 of Table 2; approaches:
# Table 3; 4×: Sec. 4.5; the others: Tables 4 and 5.
FIGURES: Mapping[int, Mapping[str, Mapping[str, float]]] = {
    8: {
        'hr': _row(0.9948, 0.9538),
        'bicubic': _row(23.1323, 0.6093, 0.2913, 0.9751, 0.9308),
        'ma': _row(23.8606, 0.6571, 0.3823, 0.9758, 0.9326),
        'lapsrn': _row(26.1451, 0.7417, 0.4361, 0.9746, 0.9310),
        'ur_dgn': _row(24.1857, 0.6764, 0.3682, 0.9720, 0.9278),
        'ur_dgn_perceptual': _row(25.2859, 0.7224, 0.5267, 0.9801, 0.9354),
        'sr_only': _row(0.4418, 0.9761, 0.9320),
        'approach_i': _row(0.3875, 0.9716, 0.9298),
        'approach_ii': _row(0.4829, 0.9746, 0.9332),
        'approach_iii': _row(0.5132, 0.9758, 0.9334),
        'sicnn': _row(26.8945, 0.7689, 0.5978, 0.9825, 0.9382),
    },
    4: {'hr': _row(0.9948, 0.9538), 'sicnn': _row(0.8868, 0.9921, 0.9486)},
}

# Table 2: α → column.
ALPHAS: Mapping[int, Mapping[str, float]] = {
    0: _row(0.4418, 0.9761, 0.9320),
    2: _row(0.5134, 0.9788, 0.9348),
    4: _row(0.5639, 0.9805, 0.9356),
    8: _row(0.5978, 0.9825, 0.9382),
    16: _row(0.6041, 0.9823, 0.9384),
    32: _row(0.6101, 0.9816, 0.9376),
}

# Table 6: system → size of its input, accuracy on LFW and YTF.
SYSTEMS: Mapping[str, tuple[str, float, float | None]] = {
    'SICNN + CNNR (paper)': ('12×14', 0.9825, 0.9382),
    'CNNR (paper)': ('96×112', 0.9948, 0.9538),
    'human': ('original', 0.9753, None),
    'DeepFace [29]': ('152×152', 0.9735, 0.914),
    'DeepID2+ [28]': ('47×55', 0.9870, 0.932),
    'FaceNet [27]': ('224×224', 0.9963, 0.951),
    'VGG Face [24]': ('224×224', 0.9895, 0.973),
    'center loss [35]': ('96×112', 0.9928, 0.949),
    'SphereFace [20]': ('96×112', 0.9942, 0.950),
}
