import pytest
import torch
from torch import Generator

from medmtl.data.intensity import FLAT_HU, IntensityAugmentation, IntensityWindow, hide_image
from medmtl.data.windows import NO_HU


def test_the_window_ends_become_minus_one_and_one() -> None:
    window = IntensityWindow(low_hu=-1000.0, high_hu=400.0)
    hu = torch.tensor([-3000.0, -1000.0, -300.0, 400.0, 3000.0]).reshape(1, 1, 1, 1, 5)
    assert window.scale(hu).flatten().tolist() == pytest.approx([-1, -1, 0, 1, 1], abs=1e-6)


def scene(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    inside = torch.rand((batch, 1, 4, 8, 8), generator=Generator().manual_seed(3)) < 0.7
    return torch.where(inside, 37.0, float(NO_HU)), inside


def test_disturbance_spares_what_lies_beyond_the_file() -> None:
    hu, inside = scene()
    knobs = IntensityAugmentation(noise_hu=50.0, offset_hu=30.0)
    disturbed = knobs.disturb(hu, inside, Generator().manual_seed(0))
    assert (disturbed[~inside] == NO_HU).all()
    assert (disturbed[inside] != 37.0).float().mean() > 0.99
    assert (hu[inside] == 37.0).all()  # the input is left as it was


def test_disturbance_is_bounded_and_differs_between_cases() -> None:
    hu = torch.zeros(400, 1, 2, 16, 16)
    knobs = IntensityAugmentation(noise_hu=20.0, offset_hu=30.0)
    disturbed = knobs.disturb(hu, hu == 0, Generator().manual_seed(0)).flatten(1)
    offsets, levels = disturbed.mean(1), disturbed.std(1)
    assert offsets.abs().max() < 30 + 5 and offsets.std() > 10
    assert levels.max() < 20 * 1.2 and levels.min() < 3 and levels.max() > 15


def test_the_same_seed_disturbs_alike() -> None:
    hu, inside = scene()
    knobs = IntensityAugmentation(noise_hu=20.0, offset_hu=30.0)
    one, two = (knobs.disturb(hu, inside, Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)


def test_no_disturbance_is_none() -> None:
    hu, inside = scene()
    calm = IntensityAugmentation(noise_hu=0.0, offset_hu=0.0)
    assert torch.equal(calm.disturb(hu, inside, Generator().manual_seed(0)), hu)


def test_flattened_images_tell_nothing_but_the_file_s_extent() -> None:
    hu, inside = scene()
    other = torch.where(inside, torch.randn(hu.shape) * 300, hu)
    flat = hide_image(hu, inside, "padding_only")
    assert torch.equal(flat, hide_image(other, inside, "padding_only"))
    assert len(flat[inside].unique()) == 1
    assert torch.equal(flat == NO_HU, ~inside)


def test_the_image_itself_is_not_hidden() -> None:
    hu, inside = scene()
    assert torch.equal(hide_image(hu, inside, "image"), hu)


def test_stored_only_tells_besides_where_voxels_were_not_stored() -> None:
    hu, inside = scene()
    cut_out = torch.rand(hu.shape, generator=Generator().manual_seed(4)) < 0.3
    noise = (torch.randn(hu.shape, generator=Generator().manual_seed(5)) * 300).clamp(min=-1000)
    images = [torch.where(inside & cut_out, -1024.0, each) for each in
              (hu, torch.where(inside, noise, hu))]  # fmt: skip
    one, other = (hide_image(each, inside, "stored_only") for each in images)
    assert torch.equal(one, other)
    assert torch.equal(one == FLAT_HU, inside & ~cut_out)
    assert set(one.unique().tolist()) == {-1024.0, float(NO_HU), FLAT_HU}
