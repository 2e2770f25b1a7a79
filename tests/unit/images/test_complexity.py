"""The Hilbert curve keeps neighbours together; the spectrum is right where it is known."""

import numpy as np
import pytest

from brainage.errors import ShapeError
from brainage.images.complexity import (
    hilbert_order,
    hilbert_signals,
    multifractal_spectrum,
)

LONG = (16, 32, 64, 128, 256, 512, 1024)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_curve_visits_every_pixel_once_in_steps_of_one_pixel(order: int) -> None:
    curve = hilbert_order(order)
    assert len({tuple(pixel) for pixel in curve.tolist()}) == 4**order
    assert (np.abs(np.diff(curve, axis=0)).sum(axis=1) == 1).all()
    assert curve.min() == 0 and curve.max() == 2**order - 1


def test_curve_is_local_at_every_level() -> None:
    """Each aligned quarter of the signal is one quarter of the square: what row order breaks."""
    quarters = hilbert_order(4).reshape(4, -1, 2)
    assert all((np.ptp(quarter, axis=0) == 7).all() for quarter in quarters)


def test_digits_are_padded_to_order_five_and_centred() -> None:
    image = np.zeros((1, 28, 28))
    image[0, 0, 0] = 1.0
    signal = hilbert_signals(image)
    assert signal.shape == (1, 1024)
    np.testing.assert_array_equal(hilbert_order(5)[signal[0].argmax()], [2, 2])


def test_colours_are_averaged() -> None:
    image = np.random.default_rng(0).random((2, 3, 32, 32))
    np.testing.assert_allclose(hilbert_signals(image), hilbert_signals(image.mean(axis=1)))


def binomial_cascade(levels: int, weight: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a measure of 2^levels samples: halves get the shares p and 1 - p, in random order.

    τ(q) = −log2(p^q + (1 − p)^q) (Kantelhardt et al. 2002, section 4.2), so α runs from
    −log2(max(p, 1 − p)) to −log2(min(p, 1 − p)) as q runs over all numbers.
    """
    measure = np.ones(1)
    for _ in range(levels):
        share = np.where(rng.random(measure.size) < 0.5, weight, 1.0 - weight)
        measure = np.stack([measure * share, measure * (1.0 - share)], axis=1).ravel()
    return measure


@pytest.mark.parametrize("weight", [0.6, 0.75])
def test_binomial_cascade_has_its_analytic_spectrum(weight: float) -> None:
    rng = np.random.default_rng(0)
    signals = np.stack([binomial_cascade(14, weight, rng) for _ in range(8)])
    spectrum = multifractal_spectrum(signals, scales=LONG)
    q, (a, b) = np.array([-5.0, 5.0]), (weight, 1.0 - weight)
    share = a**q / (a**q + b**q)
    slowest, fastest = -(share * np.log2(a) + (1 - share) * np.log2(b))
    assert spectrum.width.mean() == pytest.approx(slowest - fastest, abs=0.15)
    typical = -0.5 * (np.log2(a) + np.log2(b))
    assert spectrum.irregularity.mean() == pytest.approx(typical, abs=0.08)
    np.testing.assert_allclose(spectrum.f.max(axis=1), 1.0, atol=0.01)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.8])
def test_fractional_noise_is_monofractal_with_its_own_exponent(hurst: float) -> None:
    """Spectral synthesis: power ~ frequency^(1 − 2H), so α0 = H and the width goes to zero."""
    rng = np.random.default_rng(1)
    frequency = np.fft.rfftfreq(2**15)
    frequency[0] = 1.0  # the mean plays no role
    noise = rng.standard_normal((4, frequency.size)) + 1j * rng.standard_normal((4, frequency.size))
    signals = np.fft.irfft(noise * frequency ** (0.5 - hurst), axis=1)
    spectrum = multifractal_spectrum(signals, scales=LONG)
    assert spectrum.irregularity.mean() == pytest.approx(hurst, abs=0.05)
    assert spectrum.width.mean() < 0.12


def test_a_signal_does_not_depend_on_its_neighbours_its_scale_or_its_level() -> None:
    rng = np.random.default_rng(2)
    signals = rng.random((3, 1024))
    alone = multifractal_spectrum(7.0 * signals[1:2] + 3.0)
    np.testing.assert_allclose(multifractal_spectrum(signals).width[1], alone.width[0], rtol=1e-6)


def test_length_that_scales_do_not_divide_loses_no_sample() -> None:
    rng = np.random.default_rng(3)
    signal = rng.standard_normal((1, 1000))
    changed = signal.copy()
    changed[0, -1] += 50.0
    before, after = (multifractal_spectrum(x, scales=(7, 30, 90)) for x in (signal, changed))
    assert before.width[0] != pytest.approx(after.width[0], abs=1e-3)


def test_black_border_carries_no_exponent() -> None:
    signals = np.zeros((1, 1024))
    signals[0, 300:700] = np.random.default_rng(4).random(400)
    assert multifractal_spectrum(signals).width[0] < 0.5


@pytest.mark.parametrize(
    ("signals", "options", "where"),
    [
        (np.zeros((2, 1024)), {}, "signal 0"),
        (np.zeros(1024), {}, "signals"),
        (np.ones((1, 64)), {}, "scales"),
        (np.ones((1, 1024)), {"moments": (1.0, 0.0, 2.0, 3.0)}, "moments"),
    ],
)
def test_signals_without_a_spectrum_are_refused(signals, options, where) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ShapeError, match=where):
        multifractal_spectrum(signals, **options)


def test_oblong_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="square"):
        hilbert_signals(np.zeros((1, 28, 20)))
