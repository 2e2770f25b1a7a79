"""Each change to a scan does what its name says, and nothing else."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brainage.errors import ConfigError
from brainage.preprocessing.perturbations import (
    BRAIN,
    BY_NAME,
    PERTURBATIONS,
    Original,
    select_perturbations,
)
from brainage.types import Volume

SHAPE = (34, 40, 30)
SPACING_MM = (2.0, 1.5, 2.5)


def build_scan(data: np.ndarray | None = None, seed: int = 0) -> Original:
    """An oblique scan, 0 around a ball of tissue that is the brain."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", [10, -7, 5], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(SPACING_MM), (-30, 12, 40)
    centre = (np.array(SHAPE) - 1) / 2
    index = np.indices(SHAPE).reshape(3, -1).T - centre
    brain = (np.linalg.norm(index * SPACING_MM, axis=1) < 20).reshape(SHAPE)
    if data is None:
        data = np.where(brain, np.random.default_rng(1).uniform(50, 250, SHAPE), 0)
    return Original(Volume(data.astype(np.float32), affine), rng, lambda: brain)


def apply(name: str, scan: Original | None = None) -> Volume:
    return BY_NAME[name].apply(scan or build_scan())


def places(volume: Volume) -> np.ndarray:
    """World coordinates (I, J, K, 3) of the voxels."""
    index = np.moveaxis(np.indices(volume.data.shape), 0, -1)
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def names(*groups: str) -> list[str]:
    return [item.name for item in PERTURBATIONS if item.group in groups]


@pytest.mark.parametrize("name", [item.name for item in PERTURBATIONS])
def test_every_change_gives_a_scan_again(name):
    changed = apply(name)
    assert changed.data.dtype == np.float32 and changed.data.ndim == 3
    assert np.isfinite(changed.data).any() and np.linalg.det(changed.affine[:3, :3]) != 0
    assert np.array_equal(apply(name).data, changed.data, equal_nan=True)


@pytest.mark.parametrize("name", names("turn", "flip"))
def test_a_turned_header_moves_the_voxels_rigidly_about_their_centre(name):
    scan, changed = build_scan(), apply(name)
    motion = changed.affine @ np.linalg.inv(scan.volume.affine)
    turn = motion[:3, :3]
    assert np.array_equal(changed.data, scan.volume.data)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.isclose(np.linalg.det(turn), 1)
    assert np.allclose(places(changed).mean((0, 1, 2)), places(scan.volume).mean((0, 1, 2)))
    last = name.split("_")[-1]
    degrees = abs(int(last)) if name.startswith("turn") else 120 if len(last) == 3 else 180
    assert np.isclose(np.degrees(Rotation.from_matrix(turn).magnitude()), degrees)


@pytest.mark.parametrize("name", names("shift"))
def test_a_shifted_header_moves_all_voxels_alike(name):
    moved = places(apply(name)) - places(build_scan().volume)
    axis, distance = "xyz".index(name.split("_")[1]), float(name.split("_")[2])
    assert abs(distance) == 20 and np.allclose(moved, distance * np.eye(3)[axis])


@pytest.mark.parametrize("name", names("stored"))
def test_another_order_on_disk_leaves_every_voxel_in_its_place(name):
    scan, changed = build_scan().volume, apply(name)
    index = np.rint((places(changed) - scan.affine[:3, 3]) @ np.linalg.inv(scan.affine[:3, :3]).T)
    assert np.array_equal(scan.data[tuple(np.moveaxis(index.astype(int), -1, 0))], changed.data)
    assert not np.allclose(changed.affine, scan.affine)


@pytest.mark.parametrize("name", names("resample"))
def test_resampling_keeps_what_lies_where(name):
    scan = build_scan()
    # Brightness that tells the place: linear interpolation and smoothing keep it off the edges.
    ramp = places(scan.volume) @ [1.0, 2.0, -3.0]
    changed = apply(name, build_scan(ramp))
    assert np.allclose(changed.spacing_mm, [float(mm) for mm in name.split("_")[1].split("x")])
    inner = tuple(slice(s // 5, -(s // 5)) for s in changed.data.shape)
    assert np.allclose(changed.data[inner], (places(changed) @ [1.0, 2.0, -3.0])[inner], atol=0.1)
    corner = np.array([-0.5, -0.5, -0.5, 1])
    assert np.allclose(changed.affine @ corner, scan.volume.affine @ corner)
    extent = np.array(changed.data.shape) * changed.spacing_mm - np.array(SHAPE) * SPACING_MM
    assert ((extent > -1e-3) & (extent < changed.spacing_mm)).all()


@pytest.mark.parametrize(
    ("name", "axis", "behind", "lost_mm"),
    [
        ("cut_top_10mm", 2, True, 10),
        ("cut_bottom_15mm", 2, False, 15),
        ("crop_neck", 2, False, -10),
    ],
)
def test_a_crop_loses_what_it_says(name, axis, behind, lost_mm):
    scan, changed = build_scan(), apply(name)
    inside = np.flatnonzero(scan.brain.any((0, 1)))
    start = np.rint(np.linalg.solve(scan.volume.affine, changed.affine[:, 3])[:3]).astype(int)
    stop = start + changed.data.shape
    kept = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    assert np.array_equal(scan.volume.data[kept], changed.data)
    edge = inside[-1] - (stop[axis] - 1) if behind else start[axis] - inside[0]
    assert abs(edge * SPACING_MM[axis] - lost_mm) <= SPACING_MM[axis] / 2
    assert changed.data.shape[:2] == SHAPE[:2]


def test_a_crop_to_the_brain_keeps_5_mm_around_it():
    changed = apply("crop_to_brain")
    for axis, size in enumerate(SPACING_MM):
        inside = np.flatnonzero((changed.data > 0).any(tuple({0, 1, 2} - {axis})))
        for margin in (inside[0], changed.data.shape[axis] - 1 - inside[-1]):
            assert abs(margin * size - 5) <= size / 2


def test_a_ramp_runs_from_end_to_end_of_its_axis():
    for axis in range(3):
        ramp = np.moveaxis(apply(f"ramp_{'ijk'[axis]}", build_scan(np.ones(SHAPE))).data, axis, 0)
        assert (np.ptp(ramp.reshape(len(ramp), -1), axis=1) == 0).all()
        assert ramp[:, 0, 0] == pytest.approx(np.linspace(0.3, 1.3, len(ramp)))


@pytest.mark.parametrize("name", names("slices"))
def test_slices_change_from_the_middle_of_the_brain_on(name):
    scan = build_scan(np.random.default_rng(5).uniform(1, 2, SHAPE))
    *_, kind, last = name.split("_")
    axis = "ijk".index(last) if last in "ijk" else 1
    before, after = (np.moveaxis(v.data, axis, 0) for v in (scan.volume, apply(name, scan)))
    inside = np.flatnonzero(scan.brain.any(tuple({0, 1, 2} - {axis})))
    middle = inside[len(inside) // 2]
    assert np.array_equal(before[:middle], after[:middle])
    length = {"bright": 12, "repeated": 8, "lost": 10}.get(kind if last in "ijk" else last, 1e9)
    end = min(len(before), middle + round(length / SPACING_MM[axis]))
    assert end > middle + 1
    if last == "lost":
        assert np.array_equal(before[end:], after[middle:])
    elif last == "repeated":
        assert (after[middle:end] == before[middle - 1]).all()
        assert np.array_equal(before[end:], after[end:])
    else:
        factor = 1.3 if kind == "step" else 1.5
        assert np.allclose(after[middle:end], factor * before[middle:end])
        assert np.array_equal(before[end:], after[end:])


def test_a_bias_field_is_smooth_and_as_strong_as_it_says():
    field = apply("bias_20", build_scan(np.ones(SHAPE))).data
    assert np.isclose(field.min(), 0.8) and np.isclose(field.max(), 1.2)
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.05


def test_noise_is_as_strong_as_it_says_and_leaves_an_empty_background():
    scan = build_scan()
    flat = build_scan(np.where(scan.brain, 200, 0))
    noisy = apply("noise_8", flat).data
    brightness = np.percentile(flat.volume.data, 95)
    assert abs(noisy[scan.brain].std() / (0.08 * brightness) - 1) < 0.1
    assert (noisy[~scan.brain] == 0).all()
    air = build_scan(np.random.default_rng(3).uniform(0, 9, SHAPE) + 200 * scan.brain)
    assert (apply("noise_8", air).data[~scan.brain] != air.volume.data[~scan.brain]).all()


@pytest.mark.parametrize("exponent", [0.8, 1.25])
def test_gamma_bends_brightness_between_its_ends(exponent):
    scan = build_scan()
    before, after = scan.volume.data, apply(f"gamma_{exponent}", scan).data
    high = np.percentile(before, 99.9)
    assert np.allclose(after / high, (before / high) ** exponent, atol=1e-4)


def test_smoothing_is_as_wide_as_it_says():
    point = np.zeros(SHAPE)
    point[17, 20, 15] = 1000
    changed = apply("smooth_2mm", build_scan(point))
    weight = changed.data / changed.data.sum()
    variance = weight[..., None] * (np.moveaxis(np.indices(SHAPE), 0, -1) - [17, 20, 15]) ** 2
    width_mm = np.sqrt(variance.sum((0, 1, 2))) * SPACING_MM * np.sqrt(8 * np.log(2))
    assert np.isclose(changed.data.sum(), 1000, rtol=1e-3) and np.allclose(width_mm[1], 2, atol=0.2)


@pytest.mark.parametrize("bits", [8, 15])
def test_quantising_leaves_whole_numbers_in_order(bits):
    scan = build_scan()
    changed = apply(f"quantise_{bits}bit", scan).data
    assert np.array_equal(changed, np.rint(changed)) and changed.max() == 2**bits - 1
    wanted = scan.volume.data / scan.volume.data.max() * (2**bits - 1)
    assert np.abs(changed - wanted).max() <= 0.5 + 1e-2


def test_defacing_spares_10_mm_around_the_brain_and_all_behind_and_above():
    scan = build_scan(np.full(SHAPE, 9.0))
    lost = apply("deface", build_scan(np.pad(np.full([n - 2 for n in SHAPE], 9.0), 1))).data == 0
    lost &= np.pad(np.ones([n - 2 for n in SHAPE], bool), 1)
    assert lost.any() and scan.distance_mm(scan.brain)[lost].min() > 10
    _, j, k = np.nonzero(lost)
    assert j.min() >= SHAPE[1] // 2 - 1 and k.max() <= SHAPE[2] // 2


@pytest.mark.parametrize(
    ("grown", "name"), [(-2, "strip_-2mm"), (0, "strip_0mm"), (2, "strip_2mm")]
)
def test_a_strip_follows_the_brain_at_its_distance(grown, name):
    scan = build_scan(np.full(SHAPE, 5.0))
    kept = apply(name, scan).data == 5
    assert (apply(name, scan).data[~kept] == 0).all()
    if grown < 0:
        assert scan.distance_mm(~scan.brain)[kept].min() > 2 and not kept[~scan.brain].any()
        assert scan.distance_mm(~scan.brain)[~kept].max() <= 2
    else:
        assert scan.distance_mm(scan.brain)[kept].max() <= grown
        assert scan.distance_mm(scan.brain)[~kept].min() > grown


@pytest.mark.parametrize("value", [-1000, 255, np.nan])
def test_the_background_changes_and_a_dark_hole_in_the_brain_does_not(value):
    scan = build_scan()
    data = scan.volume.data.copy()
    data[17, 20, 15] = 0
    changed = apply(f"background_{value}", build_scan(data)).data
    assert np.array_equal(changed[scan.brain], data[scan.brain])
    assert np.array_equal(changed[~scan.brain], np.full((~scan.brain).sum(), value), equal_nan=True)


@pytest.mark.parametrize("name", ["background_zscored", "background_0_zscored"])
def test_z_scores_have_mean_0_and_deviation_1_in_the_brain(name):
    scan, changed = build_scan(), apply(name).data
    inside, outside = changed[scan.brain], np.unique(changed[~scan.brain])
    assert abs(inside.mean()) < 1e-4 and abs(inside.std() - 1) < 1e-4 and len(outside) == 1
    assert (outside[0] == 0) == (name == "background_0_zscored")


def test_names_and_groups_are_selected_and_others_refused():
    assert len(select_perturbations()) == len(PERTURBATIONS) - 1
    chosen = select_perturbations(["flip", "noise_3"])
    assert {item.group for item in chosen} == {"flip", "noise"} and len(chosen) == 6
    assert all(item.only == BRAIN for item in select_perturbations(["background"]))
    with pytest.raises(ConfigError, match="noise_3"):
        select_perturbations(["noise3"])
