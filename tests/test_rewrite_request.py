"""Requests: JSON there and back, by hand, and what is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dissect import GanatomyError
from dissect.samples import Sampling
from rewrite import Region, Request

MASK = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)


def whole():
    return Request(
        8, (Region.box(4, 8, 1, 2, 3, 5), Region(5, MASK)), Region(3, MASK > 0.5),
        (Region(6, concept="hair"), Region(7, MASK, "eyes")), "mean", Sampling(2, 0.7, None, "random"), "a name",
    )  # fmt: skip


def test_there_and_back(tmp_path):
    request = whole()
    again = Request.load(request.save(tmp_path / "request.json"))
    assert again.described() == request.described()
    assert (again.name, again.goal, again.sampling) == ("a name", "mean", Sampling(2, 0.7, None, "random"))
    for one, other in zip(again.regions, request.regions, strict=True):
        assert (one.seed, one.concept) == (other.seed, other.concept)
        if other.mask is None:
            assert one.mask is None
        else:
            np.testing.assert_allclose(one.mask, other.mask, atol=0.5 / 255 + 1e-6)
    assert request.seeds == (3, 4, 5, 6, 7)
    assert request.needs_segmenter
    erased = Request(8, (Region(1),), goal="erase")
    assert Request.of(erased.described()).described() == erased.described()
    assert not erased.needs_segmenter


def test_by_hand():
    told = {
        "format": "ganatomy.request", "version": 1, "resolution": 8, "copy": {"seed": 1, "box": [0, 0, 2, 3]},
        "paste": [{"seed": 2, "box": [4, 4, 8, 8]}], "context": [{"seeds": [3, 4, 5], "concept": "hair"}],
    }  # fmt: skip
    request = Request.of(told)
    assert [region.seed for region in request.context] == [3, 4, 5]
    assert {region.concept for region in request.context} == {"hair"}
    assert request.copy.mask.sum() == 6
    assert request.goal == "crop"


def told(**changes):
    return {
        "format": "ganatomy.request", "version": 1, "resolution": 8, "copy": {"seed": 1, "box": [0, 0, 2, 3]},
        "paste": [{"seed": 2, "box": [4, 4, 8, 8]}],
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected a JSON object"),
        ({}, 'expected a JSON object with "format"'),
        (told(version=9), "version 9, this ganatomy reads 1"),
        (told(version="1"), "version '1', this"),
        (told(colour=1), "unknown entries colour"),
        (told(paste=[]), "at least one region to paste"),
        (told(paste={"seed": 2}), "a list of regions"),
        (told(paste=[2]), "a region as a JSON object"),
        (told(paste=[{"mask": "x"}]), "lacks 'seed'"),
        (told(paste=[{"seed": -1}]), "seed"),
        (told(paste=[{"seed": 2, "boxes": []}]), "unknown entries of a region"),
        (told(paste=[{"seed": 2, "box": [4, 4, 4, 8]}]), r"a box \[top, left, bottom, right\] within 8 x 8"),
        (told(paste=[{"seed": 2, "box": [4, 4, 9, 8]}]), "within 8 x 8"),
        (told(paste=[{"seed": 2, "box": [4]}]), "cannot be read"),
        (told(paste=[{"seed": 2, "mask": "http://x"}]), "expected a mask as data:image/png"),
        (told(paste=[{"seed": 2, "mask": "data:image/png;base64,AAAA"}]), "a mask is no PNG"),
        (told(paste=[{"seed": 2, "mask": "data:image/png;base64,?"}]), "a mask is no PNG"),
        (told(resolution=float("inf")), "the resolution as a whole number"),
        (told(resolution=8.5), "the resolution as a whole number"),
        (told(resolution=10**7), "a resolution of 1 to"),
        (told(resolution=0, copy={"seed": 1}, paste=[{"seed": 2}]), "a resolution of 1 to"),
        (told(paste=[{"seed": 2, "box": [0, 0, float("inf"), 8]}]), "the edge of a box as a whole number"),
        (told(paste=[{"seed": 2, "box": [0.9, 0, 2.9, 8]}]), "the edge of a box as a whole number"),
        (told(paste=[{"seed": [1, 2]}]), r"got \[1, 2\]"),
        (told(context=[{"seeds": []}]), "at least one seed"),
        (told(paste=[{"seeds": [1], "seed": 2}]), "both 'seed' and 'seeds'"),
        (told(paste=[{"seed": 1, "box": [0, 0, 1, 1], "mask": "x"}]), "both 'box' and 'mask'"),
        (told(goal="best"), "crop, mean, erase"),
        (told(goal="erase"), "erase copies nothing"),
        ({k: v for k, v in told().items() if k != "copy"}, "needs a region to copy from"),
        ({k: v for k, v in told().items() if k != "paste"}, "lacks 'paste'"),
        (told(sampling={"warmth": 1}), "cannot be read"),
        (told(copy={"seeds": [1, 2]}), "one region to copy from"),
        (told(resolution=16, paste=[Region(2, MASK).described()]), "has 8 x 8 pixels, the request is for 16 x 16"),
        (told(paste=[{"seed": 2, "mask": Region(2, MASK).described()["mask"][:60]}]), "a mask is no PNG"),
    ],
)
def test_bad_requests_are_one_line(given, message, tmp_path):
    with pytest.raises(GanatomyError, match=message) as raised:
        Request.of(given)
    assert "\n" not in str(raised.value)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(given))
    with pytest.raises(GanatomyError, match="bad.json"):
        Request.load(path)


def test_files_that_are_no_requests(tmp_path):
    with pytest.raises(GanatomyError, match="no such file"):
        Request.load(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    for content in (b"{", b"\xff\xfe", b"[" * 100000):
        path.write_bytes(content)
        with pytest.raises(GanatomyError, match="is no request"):
            Request.load(path)


def test_the_seeds_of_an_entry_share_a_mask():
    request = Request.of(told(context=[{"seeds": list(range(1000)), "box": [0, 0, 2, 3]}]))
    assert len({id(region.mask) for region in request.context}) == 1
    mine = np.full((8, 8), 2, np.float32)
    mine.flags.writeable = False
    with pytest.raises(GanatomyError, match=r"values in \[0, 1\]"):
        Region(1, mine)


def test_what_is_faint_in_a_mask_is_still_there_after_saving():
    faint = np.zeros((8, 8), np.float32)
    faint[2:4, 2:4], faint[7, 7] = 1, 1e-4
    again = Request.of(Request(8, (Region(4, faint),), Region(3, faint * 1e-3)).described())
    assert np.array_equal(again.paste[0].mask > 0, faint > 0)
    assert np.array_equal(again.copy.mask > 0, faint > 0)


def test_masks():
    with pytest.raises(GanatomyError, match="mask of seed 3 is empty"):
        Region(3, np.zeros((8, 8)))
    with pytest.raises(GanatomyError, match=r"values in \[0, 1\]"):
        Region(3, 2 * MASK)
    with pytest.raises(GanatomyError, match=r"a mask \[H, W\]"):
        Region(3, MASK[0])
