"""Tests of metamimic.networks.torsos."""

import dataclasses

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from metamimic import config as config_lib
from metamimic import presets
from metamimic.networks import critics
from metamimic.networks import pictures
from metamimic.networks import policies
from metamimic.networks import torsos

RNG = np.random.default_rng


def _torso(sizes: config_lib.NetworkConfig) -> torsos.ResidualTorso:
  return torsos.ResidualTorso(
    sizes.filters, sizes.torso_blocks, sizes.embedding, sizes.normalise
  )


def _seen(batch: int, size: int, channels: int = 9) -> pictures.Seen:
  rng = RNG(0)
  shown = rng.normal(size=(batch, size, size, channels)).astype(np.float32)
  features = rng.normal(size=(batch, 5)).astype(np.float32)
  return pictures.Seen(tf.constant(features), tf.constant(shown))


def _convolutions(module: snt.Module) -> int:
  return sum(isinstance(m, snt.Conv2D) for m in module.submodules)


def _parameters(*modules: snt.Module) -> int:
  return sum(v.shape.num_elements() for m in modules for v in m.trainable_variables)


def test_large_torsos_have_22_million_parameters() -> None:
  seen = _seen(1, 84, channels=3)
  seen = seen._replace(features=seen.features[:, :0])
  both = [_torso(presets.LARGE_TORSOS) for _ in range(2)]
  for torso in both:
    assert torso(seen).shape == (1, 512)
    assert _convolutions(torso) == 20
  # Of each: convolutions, biases but of the first of each block, scales and offsets of
  # two normalisations a block, the linear layer on 6 x 6, and the last normalisation.
  stages = list(zip((3, 64, 128, 256), (64, 128, 256, 256), strict=True))
  kernels = sum(9 * a * b + 4 * 9 * b * b for a, b in stages)
  others = sum((1 + 2) * b + 8 * b for _, b in stages)
  last = 6 * 6 * 256 * 512 + 512 + 2 * 512
  assert _parameters(*both) == 2 * (kernels + others + last)
  assert round(_parameters(*both) / 1e6, 1) == 22.3


def test_small_torso_has_15_convolutions_and_no_normalisation() -> None:
  torso = _torso(presets.SMALL_TORSOS)
  assert torso(_seen(2, 84)).shape == (2, 5 + 256)
  assert _convolutions(torso) == 15
  kinds = {type(m) for m in torso.submodules}
  assert not kinds & {snt.InstanceNorm, snt.LayerNorm}


@pytest.mark.parametrize('sizes', [presets.SMALL_TORSOS, presets.LARGE_TORSOS])
@pytest.mark.parametrize('normalise', [False, True])
def test_every_layer_learns(sizes: config_lib.NetworkConfig, normalise: bool) -> None:
  sizes = dataclasses.replace(sizes, normalise=normalise)
  seen = _seen(2, 84)
  policy = torsos.Seeing(_torso(sizes), policies.PolicyNetwork(9, sizes))
  critic = torsos.Seeing(_torso(sizes), critics.CriticNetwork(sizes, 11, 0.0, 10.0))
  with tf.GradientTape() as tape:
    action = policy(seen)
    value = tf.reduce_mean(critic(seen, action).mean())
  assert action.shape == (2, 9)
  variables = policy.trainable_variables + critic.trainable_variables
  for variable, gradient in zip(
    variables, tape.gradient(value, variables), strict=True
  ):
    assert np.isfinite(gradient).all() and np.any(gradient), variable.name


def _convolve(
  x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
  """Returns a 3 x 3 convolution, nought beyond the edge, pixel by pixel."""
  height, width, _ = x.shape
  padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
  found = np.zeros((height, width, weights.shape[-1]))
  for i in range(height):
    for j in range(width):
      patch = padded[i : i + 3, j : j + 3]
      found[i, j] = np.tensordot(patch, weights, 3)
  return found if bias is None else found + bias


def _halve(x: np.ndarray) -> np.ndarray:
  """Returns maxima over 3 x 3 at every other pixel; of an even size the last is cut."""
  height, width, channels = x.shape
  found = np.empty(((height + 1) // 2, (width + 1) // 2, channels))
  for i in range(found.shape[0]):
    for j in range(found.shape[1]):
      rows = (
        slice(2 * i, 2 * i + 3)
        if height % 2 == 0
        else slice(max(2 * i - 1, 0), 2 * i + 2)
      )
      columns = (
        slice(2 * j, 2 * j + 3)
        if width % 2 == 0
        else slice(max(2 * j - 1, 0), 2 * j + 2)
      )
      found[i, j] = x[rows, columns].max((0, 1))
  return found


def _elu(x: np.ndarray) -> np.ndarray:
  return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.parametrize('normalise', [False, True])
def test_torso_is_what_numpy_makes_of_it(normalise: bool) -> None:
  torso = torsos.ResidualTorso((2, 3), 1, 4, normalise)
  seen = _seen(2, 6, channels=2)
  torso(seen)
  rng = RNG(1)
  for variable in torso.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  found = torso(seen).numpy()

  for row in range(2):
    h = seen.pictures[row].numpy().astype(float)
    for stage in torso._stages:
      first = stage._convolution
      h = _halve(_convolve(h, first.w.numpy(), first.b.numpy()))
      (block,) = stage._blocks
      x = h
      for norm, convolution in zip(block._norms, block._convolutions, strict=True):
        if normalise:
          mean, variance = h.mean((0, 1)), h.var((0, 1))
          h = (h - mean) / np.sqrt(variance + 1e-5)
          assert isinstance(norm, snt.InstanceNorm)
          h = h * norm.scale.numpy() + norm.offset.numpy()
        bias = convolution.b.numpy() if convolution.with_bias else None
        h = _convolve(_elu(h), convolution.w.numpy(), bias)
      h = x + h
    h = _elu(h).reshape(-1) @ torso._last.w.numpy() + torso._last.b.numpy()
    if normalise:
      h = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
      assert isinstance(torso._norm, snt.LayerNorm)
      h = h * torso._norm.scale.numpy() + torso._norm.offset.numpy()
    expected = np.concatenate([seen.features[row].numpy(), _elu(h)])
    np.testing.assert_allclose(found[row], expected, rtol=2e-4, atol=2e-4)
