"""Appearance against scikit-image, and planted pairs on which eye and encoder disagree."""

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity as reference_ssim

from histolatent.audit.appearance import describe_appearance, stain_planes
from histolatent.audit.discordance import discordant_pairs
from histolatent.errors import InputError, OptionError
from histolatent.images.similarity import structural_similarity


@pytest.fixture(scope="module")
def thumbnails() -> np.ndarray:
    """60 textures: smooth noise of three scales and two tints."""
    random = np.random.default_rng(0)
    tiles = []
    for number in range(60):
        noise = cv2.GaussianBlur(random.normal(size=(32, 40)), (0, 0), (0.6, 1.5, 3)[number % 3])
        tint = np.array([(0.5, 0.9, 0.3), (0.2, 1.0, 0.6)][number % 2])
        density = np.clip(0.5 + 0.3 * noise / noise.std(), 0, None)[..., None] * tint
        tiles.append(np.rint(255 * np.exp(-density)).astype(np.uint8))
    return np.stack(tiles)


@pytest.fixture(scope="module")
def vectors(thumbnails) -> np.ndarray:
    """An embedding that agrees with the eye, and a little more."""
    appearance = describe_appearance(stain_planes(thumbnails))
    return np.hstack([appearance, 0.3 * np.random.default_rng(1).normal(size=(60, 6))])


def test_ssim_against_scikit_image(thumbnails):
    planes = stain_planes(thumbnails)
    first, second = np.array([0, 1, 5, 7]), np.array([3, 2, 5, 40])
    oracle = [
        np.mean(
            [
                reference_ssim(
                    planes[i, ..., stain].astype(float),
                    planes[j, ..., stain].astype(float),
                    gaussian_weights=True,
                    use_sample_covariance=False,
                    data_range=2.0,
                )
                for stain in (0, 1)
            ]
        )
        for i, j in zip(first, second, strict=True)
    ]
    found = structural_similarity(planes, first, second, value_range=2.0)
    np.testing.assert_allclose(found, oracle, atol=1e-5)
    assert found[2] == pytest.approx(1)
    np.testing.assert_allclose(structural_similarity(planes, second, first, value_range=2.0), found, atol=1e-7)


def test_appearance_ignores_turns_and_sees_colour_and_scale(thumbnails):
    square = thumbnails[:, :32, :32]
    every = np.concatenate([square, square[:3, ::-1], np.rot90(square[:3], axes=(1, 2))])
    rows = describe_appearance(stain_planes(every))
    np.testing.assert_allclose(rows[60:63], rows[:3], atol=1e-4)
    np.testing.assert_allclose(rows[63:], rows[:3], atol=1e-4)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    rows = rows[:60]
    kinds = np.arange(60) % 6  # scale and tint together
    centres = np.stack([rows[kinds == kind].mean(axis=0) for kind in range(6)])
    nearest = np.linalg.norm(rows[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == kinds).all()
    assert (describe_appearance(stain_planes(np.full((12, 20, 20, 3), 200, np.uint8))) == 0).all()


def test_a_planted_pair_of_each_kind_comes_first(thumbnails, vectors):
    tiles, embedding = thumbnails.copy(), vectors.copy()
    tiles[11] = tiles[4]  # the same image, and the encoder sends it to the other end
    embedding[11] = -embedding[4]
    far = np.linalg.norm(vectors - vectors[20], axis=1).argsort()[::-1]
    other = next(int(row) for row in far if row not in (4, 11))
    embedding[other] = embedding[20]  # another image, and the encoder cannot tell
    found = discordant_pairs(embedding, tiles)
    first = found.alike_but_far.iloc[0]
    assert (first["first"], first["second"]) == (4, 11)
    assert first["ssim"] == pytest.approx(1)
    assert first["image_rank"] < 0.01 < 0.9 < first["latent_rank"]
    pairs = found.different_but_close[["first", "second"]].to_numpy().tolist()
    assert sorted((20, other)) in pairs[:3]
    assert (found.alike_but_far["disagreement"].diff().dropna() <= 0).all()
    assert (found.different_but_close["disagreement"] < 0).all()


def test_agreement_is_high_where_the_encoder_sees_what_the_eye_sees_and_none_by_chance(thumbnails, vectors):
    assert discordant_pairs(vectors, thumbnails).agreement > 0.5
    random = np.random.default_rng(2)
    found = [discordant_pairs(random.normal(size=(60, 8)), thumbnails, seed=s).agreement for s in range(8)]
    assert abs(np.mean(found)) < 0.05


def test_no_tile_is_shown_twice(thumbnails, vectors):
    for _, frame in discordant_pairs(vectors, thumbnails).to_frame().groupby("kind"):
        rows = frame[["first", "second"]].to_numpy().ravel()
        assert len(set(rows)) == len(rows)
    assert len(discordant_pairs(vectors, thumbnails, shown=3).alike_but_far) == 3


def test_rotation_scale_and_the_seed(thumbnails, vectors):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))[0]
    plain = discordant_pairs(vectors, thumbnails, reference=300, seed=1)
    turned = discordant_pairs(5 * vectors @ turn, thumbnails, reference=300, seed=1)
    assert plain.pairs == turned.pairs < 60 * 59 / 2
    np.testing.assert_allclose(plain.to_frame()["disagreement"], turned.to_frame()["disagreement"], atol=1e-6)
    other = discordant_pairs(vectors, thumbnails, reference=300, seed=2)
    assert other.agreement != plain.agreement == turned.agreement or other.pairs != plain.pairs


def test_a_constant_encoder_has_no_pairs_and_says_why(thumbnails):
    found = discordant_pairs(np.ones((60, 4)), thumbnails)
    assert found.to_frame().empty
    assert "no two tiles are further apart than others" in found.reason
    assert np.isnan(found.agreement)


def test_messages(thumbnails, vectors):
    with pytest.raises(InputError, match=r"not of the same tiles. Received: \(60, 59\)"):
        discordant_pairs(vectors, thumbnails[:59])
    with pytest.raises(InputError, match=r"must be RGB, all of one size. Received: \(60, 8, 40, 3\)"):
        discordant_pairs(vectors, thumbnails[:, :8])
    with pytest.raises(InputError, match=r"hold NaN or infinity"):
        discordant_pairs(np.where(np.arange(60)[:, None] == 1, np.nan, vectors), thumbnails)
    with pytest.raises(InputError, match=r"too few rows"):
        discordant_pairs(vectors[:9], thumbnails[:9])
    with pytest.raises(OptionError, match=r"shown is not a number of things. Received: 0"):
        discordant_pairs(vectors, thumbnails, shown=0)
