"""The paper's figures, to compare with the measurements here.

Accuracies on LFW and YTF are over all ten folds, by a CNNR trained on faces of the
method.
"""

from collections.abc import Mapping

# Scale → method → column. HR: Table 6; L_SR only is α = 0 of Table 2; approaches:
# Table 3; 4×: Sec. 4.5; the others: Tables 4 and 5.
FIGURES: Mapping[int, Mapping[str, Mapping[str, float]]] = {
    8: {
        'hr': {'lfw': 0.9948, 'ytf': 0.9538},
        'bicubic': {
            'psnr': 23.1323,
            'ssim': 0.6093,
            'identity_similarity': 0.2913,
            'lfw': 0.9751,
            'ytf': 0.9308,
        },
        'ma': {
            'psnr': 23.8606,
            'ssim': 0.6571,
            'identity_similarity': 0.3823,
            'lfw': 0.9758,
            'ytf': 0.9326,
        },
        'lapsrn': {
            'psnr': 26.1451,
            'ssim': 0.7417,
            'identity_similarity': 0.4361,
            'lfw': 0.9746,
            'ytf': 0.9310,
        },
        'ur_dgn': {
            'psnr': 24.1857,
            'ssim': 0.6764,
            'identity_similarity': 0.3682,
            'lfw': 0.9720,
            'ytf': 0.9278,
        },
        'ur_dgn_perceptual': {
            'psnr': 25.2859,
            'ssim': 0.7224,
            'identity_similarity': 0.5267,
            'lfw': 0.9801,
            'ytf': 0.9354,
        },
        'sr_only': {'identity_similarity': 0.4418, 'lfw': 0.9761, 'ytf': 0.9320},
        'approach_i': {'identity_similarity': 0.3875, 'lfw': 0.9716, 'ytf': 0.9298},
        'approach_ii': {'identity_similarity': 0.4829, 'lfw': 0.9746, 'ytf': 0.9332},
        'approach_iii': {'identity_similarity': 0.5132, 'lfw': 0.9758, 'ytf': 0.9334},
        'sicnn': {
            'psnr': 26.8945,
            'ssim': 0.7689,
            'identity_similarity': 0.5978,
            'lfw': 0.9825,
            'ytf': 0.9382,
        },
    },
    4: {
        'hr': {'lfw': 0.9948, 'ytf': 0.9538},
        'sicnn': {'identity_similarity': 0.8868, 'lfw': 0.9921, 'ytf': 0.9486},
    },
}

# Table 2: α → column.
ALPHAS: Mapping[int, Mapping[str, float]] = {
    0: {'identity_similarity': 0.4418, 'lfw': 0.9761, 'ytf': 0.9320},
    2: {'identity_similarity': 0.5134, 'lfw': 0.9788, 'ytf': 0.9348},
    4: {'identity_similarity': 0.5639, 'lfw': 0.9805, 'ytf': 0.9356},
    8: {'identity_similarity': 0.5978, 'lfw': 0.9825, 'ytf': 0.9382},
    16: {'identity_similarity': 0.6041, 'lfw': 0.9823, 'ytf': 0.9384},
    32: {'identity_similarity': 0.6101, 'lfw': 0.9816, 'ytf': 0.9376},
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
