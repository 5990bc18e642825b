"""Tests of metamimic.policy where policies see pictures, and no object's pose."""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from envs import stepping
from envs import tasks
import metamimic
from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import drafts
from metamimic import loading
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import frames
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import pictures

TASK, SIZE, STEPS = 'lift_brick', 16, 6
CONFIG = dataclasses.replace(
  presets.PRESETS['tiny'][1],
  demonstrations='/data/lift.hdf5',
  pixels=config_lib.PixelsConfig(('front', 'side'), SIZE, look_ahead=(1, 3)),
  network=config_lib.NetworkConfig(policy_width=16, filters=(4,), embedding=6),
)
BLIND: dict[str, Any] = {'blind': True}
PICTURES_ALONE = {'goal': 'pictures'}


RESIDUAL = {'torso': 'residual'}


def _config(torso: Any = 'patches', **pixels: Any) -> config_lib.Config:
  return dataclasses.replace(
    CONFIG,
    pixels=dataclasses.replace(CONFIG.pixels, **pixels),
    network=dataclasses.replace(CONFIG.network, torso=torso),
  )


@pytest.fixture(name='environment', scope='module')
def environment_fixture() -> Iterator[stepping.ManipulationEnvironment]:
  environment = tasks.load(TASK, 0, CONFIG.pictures)
  yield environment
  environment.close()


@pytest.fixture(name='seen', scope='module')
def seen_fixture(
  environment: stepping.ManipulationEnvironment,
) -> tuple[frames.Seen, ...]:
  """Returns three demonstrations, in which the arm is waved about, with pictures."""
  found = []
  for number in range(3):
    observed = [environment.reset(seed=number).observation]
    states = [environment.get_state()]
    rng = np.random.default_rng(number)
    for action in rng.uniform(-1, 1, (STEPS, 9)).astype(np.float32):
      for _ in range(3):
        last = environment.advance(action)
      observed.append(last)
      states.append(environment.get_state())
    stacked = {g: np.stack([o[g] for o in observed]) for g in observed[0]}
    drawn = {g: v for g, v in stacked.items() if g.startswith('pixels/')}
    vectors = {g: v for g, v in stacked.items() if g not in drawn}
    name = f'demo_{number}'
    shown = types.Demonstration(name, TASK, 'lift', vectors, np.stack(states))
    found.append(frames.Seen(shown, drawn))
  return tuple(found)


def _set(seen: tuple[frames.Seen, ...]) -> types.DemonstrationSet:
  shown = tuple(s.demonstration for s in seen)
  return types.DemonstrationSet(TASK, shown, train=(0, 1), valid=(2,))


def _policy(
  seen: tuple[frames.Seen, ...],
  config: config_lib.Config = CONFIG,
  learner: str = 'imitation',
  seed: int = 0,
) -> Any:
  """Returns a policy whose actions depend much on what it sees."""
  layout = preparation.seen_layout(config, TASK)
  policy = policy_lib.create(learner, layout, config, _set(seen))
  rng = np.random.default_rng(seed)
  for variable in (*policy.network.variables, *policy.encoder.variables):
    variable.assign(0.3 * rng.standard_normal(variable.shape))
  return policy


def _bank(
  seen: tuple[frames.Seen, ...], config: config_lib.Config = CONFIG
) -> goals.GoalBank:
  return goals.GoalBank(seen, preparation.seen_layout(config, TASK))


def _batch(seen: tuple[frames.Seen, ...]) -> dict[str, np.ndarray]:
  """Returns three states of the third demonstration, following the first two."""
  present = {group: values[:3] for group, values in seen[2].observations.items()}
  return {**present, 'goal': np.array([[0, 0], [1, 2], [0, 3]], np.int32)}


def _garbled(seen: tuple[frames.Seen, ...], *groups: str) -> tuple[frames.Seen, ...]:
  """Returns the demonstrations, with something else in these groups."""

  def other(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Pictures are negatives, too.
    return {
      g: (v if g not in groups else 255 - v[::-1] if v.ndim > 2 else v[::-1].copy())
      for g, v in values.items()
    }

  found = []
  for number, s in enumerate(seen):
    vectors = other(s.demonstration.observations)
    shown = types.Demonstration(f'demo_{number}', TASK, 'lift', vectors, s.states)
    found.append(frames.Seen(shown, other(s.pictures)))
  return tuple(found)


BOTH = ('pixels/front', 'pixels/side')


def _moved(a: np.ndarray, b: np.ndarray) -> bool:
  return bool(np.abs(a - b).max(1).min() > 1e-3)


def test_actions_are_those_of_encoder_and_network(
  seen: tuple[frames.Seen, ...],
) -> None:
  policy, batch = _policy(seen), _batch(seen)
  found = policy.actor(_bank(seen))(batch)
  assert (found.shape, found.dtype) == ((3, 9), np.float32)

  def ahead(group: str, by: tuple[int, ...]) -> np.ndarray:
    return np.stack(
      [
        seen[d].observations[group][[min(t + k, STEPS) for k in by]]
        for d, t in batch['goal']
      ]
    )

  now = {'body': batch['body']}
  features = policy.features(now, {'body': ahead('body', CONFIG.imitation.look_ahead)})
  pixels = np.concatenate([batch[g] for g in BOTH], -1) / np.float32(255)
  shown = np.concatenate([ahead(g, (1, 3)) for g in BOTH], -1) / np.float32(255)
  differences = [3 * (shown[:, i] - pixels) for i in range(2)]
  stacked = np.concatenate([pixels - 0.5, *differences], -1).astype(np.float32)
  assert stacked.shape == (3, SIZE, SIZE, 6 * 3)
  encoded = policy.encoder(pictures.Seen(features, stacked))
  assert encoded.shape[1:] == policy.blank.shape[1:]
  np.testing.assert_allclose(found, policy.network(encoded), atol=1e-5)
  # A fixed batch is the same.
  fixed = policy.actor(_bank(seen), batch=3)(batch)
  np.testing.assert_allclose(fixed, found, atol=1e-5)


@pytest.mark.parametrize('camera', BOTH)
def test_each_cameras_present_and_goal_matter(
  camera: str, seen: tuple[frames.Seen, ...]
) -> None:
  policy, batch = _policy(seen), _batch(seen)
  found = policy.actor(_bank(seen))(batch)
  other = {**batch, camera: 255 - batch[camera]}
  assert _moved(policy.actor(_bank(seen))(other), found)
  assert _moved(policy.actor(_bank(_garbled(seen, camera)))(batch), found)


@pytest.mark.parametrize(
  ('learner', 'pixels'),
  [
    ('imitation', {}),
    ('imitation', PICTURES_ALONE),
    ('imitation', BLIND),
    ('task', {}),
    ('task', BLIND),
  ],
)
def test_where_objects_are_is_not_seen(
  learner: str, pixels: dict[str, Any], seen: tuple[frames.Seen, ...]
) -> None:
  config = _config(**pixels)
  policy, batch = _policy(seen, config, learner), _batch(seen)
  assert 'objects' in batch
  found = policy.actor(_bank(seen, config))(batch)
  nonsense = np.full_like(batch['objects'], np.nan)
  others = _garbled(seen, 'objects')
  np.testing.assert_array_equal(
    policy.actor(_bank(others, config))({**batch, 'objects': nonsense}), found
  )
  del batch['objects']
  np.testing.assert_array_equal(policy.actor(_bank(others, config))(batch), found)


def test_blind_policies_see_no_picture(seen: tuple[frames.Seen, ...]) -> None:
  config = _config(**BLIND)
  policy, batch = _policy(seen, config), _batch(seen)
  assert policy.encoder.variables == ()
  found = policy.actor(_bank(seen, config))(batch)
  blank = {**batch, **{group: 0 * batch[group] for group in BOTH}}
  others = _garbled(seen, *BOTH)
  np.testing.assert_array_equal(policy.actor(_bank(others, config))(blank), found)
  # It is shown where the arm shall be.
  moved = policy.actor(_bank(_garbled(seen, 'body'), config))(batch)
  assert _moved(moved, found)


def test_with_pictures_alone_the_goals_body_is_not_seen(
  seen: tuple[frames.Seen, ...],
) -> None:
  config = _config(**PICTURES_ALONE)
  policy, batch = _policy(seen, config), _batch(seen)
  found = policy.actor(_bank(seen, config))(batch)
  same = policy.actor(_bank(_garbled(seen, 'body', 'objects'), config))(batch)
  np.testing.assert_array_equal(same, found)
  assert _moved(policy.actor(_bank(_garbled(seen, *BOTH), config))(batch), found)
  # The present is, as ever: its pictures, and the body.
  assert _moved(
    policy.actor(_bank(seen, config))({**batch, 'body': -batch['body']}), found
  )
  # By default both are.
  both = _policy(seen)
  found = both.actor(_bank(seen))(batch)
  assert _moved(both.actor(_bank(_garbled(seen, 'body')))(batch), found)


@pytest.mark.parametrize('pixels', [{}, PICTURES_ALONE, BLIND])
def test_without_guidance_the_goal_is_the_present(
  pixels: dict[str, Any], seen: tuple[frames.Seen, ...]
) -> None:
  config = _config(**pixels)
  policy, batch = _policy(seen, config), _batch(seen)
  found = policy.unguided()(batch)
  # As if it followed somebody who stands still.
  still = tuple(
    frames.Seen(
      types.Demonstration(
        f'still_{i}',
        TASK,
        'lift',
        {g: np.stack([batch[g][i]] * 4) for g in ('body', 'objects')},
        np.zeros((4, 1)),
      ),
      {g: np.stack([batch[g][i]] * 4) for g in BOTH},
    )
    for i in range(3)
  )
  goal = np.array([[0, 0], [1, 1], [2, 3]], np.int32)
  expected = policy.actor(_bank(still, config))({**batch, 'goal': goal})
  np.testing.assert_allclose(found, expected, atol=1e-6)
  # Whatever it is shown, and if it is shown nothing.
  np.testing.assert_array_equal(policy.unguided()({**batch, 'goal': goal}), found)
  del batch['goal']
  np.testing.assert_array_equal(policy.unguided()(batch), found)


def test_a_task_policy_sees_the_present_alone(seen: tuple[frames.Seen, ...]) -> None:
  policy, batch = _policy(seen, learner='task'), _batch(seen)
  found = policy.actor()(batch)
  other = {**batch, 'goal': batch['goal'][::-1]}
  np.testing.assert_array_equal(policy.actor(_bank(seen))(other), found)
  # Nor does it need one.
  del other['goal']
  np.testing.assert_array_equal(policy.actor(_bank(seen))(other), found)
  for camera in BOTH:
    assert _moved(policy.actor()({**batch, camera: 255 - batch[camera]}), found)


def _save(run_dir: pathlib.Path, config: config_lib.Config, **policies: Any) -> None:
  """Makes a run directory, and in it a checkpoint set of these learners' policies.

  What is saved as the newest of an averaged policy is another one.
  """
  config_lib.save(config, str(run_dir / 'config.json'))
  run_description.write(str(run_dir), {'task': TASK})
  with drafts.turn(run_dir):
    draft = drafts.begin(run_dir)
  for learner, (used, newest) in policies.items():
    parts = {'policy': newest.network, 'encoder': newest.encoder}
    for part, module in (('policy', used.network), ('encoder', used.encoder)):
      parts[loading.saved_name(config, learner, part)] = module
    checkpoint = tf.train.Checkpoint(**parts, features=used.features)

    def write(folder: pathlib.Path, of: tf.train.Checkpoint = checkpoint) -> None:
      of.write(loading.state_path(folder))

    draft.add_learner(learner, 7, write)
  draft.complete({}, lambda: 0.0, 0.0)


@pytest.mark.parametrize(
  ('pixels', 'averaged'),
  [({}, 0), ({}, 100), (PICTURES_ALONE, 100), (BLIND, 0), (RESIDUAL, 100)],
)
def test_load_draws_what_it_watches(
  pixels: dict[str, Any],
  averaged: int,
  seen: tuple[frames.Seen, ...],
  environment: stepping.ManipulationEnvironment,
  tmp_path: pathlib.Path,
) -> None:
  d4pg = dataclasses.replace(CONFIG.d4pg, averaged_steps=averaged)
  config = dataclasses.replace(_config(**pixels), d4pg=d4pg)
  trained, other = (_policy(seen, config, seed=seed) for seed in (1, 2))
  _save(tmp_path, config, imitation=(trained, other))

  imitator = metamimic.load(str(tmp_path))
  # It comes without pictures.
  follow = imitator.watch(seen[2].demonstration)
  observation = environment.set_state(seen[0].states[2])
  action = follow(observation, 3)

  batch = {group: values[None] for group, values in observation.items()}
  batch['goal'] = np.array([[2, 3]], np.int32)
  expected, others = (p.actor(_bank(seen, config))(batch) for p in (trained, other))
  np.testing.assert_array_equal(action, expected[0])
  if averaged:
    assert _moved(others, expected)
  assert (imitator.task, imitator.learner_steps) == (TASK, 7)


def test_an_observation_without_its_pictures_is_refused(
  seen: tuple[frames.Seen, ...],
  environment: stepping.ManipulationEnvironment,
  tmp_path: pathlib.Path,
) -> None:
  config = dataclasses.replace(CONFIG, task=config_lib.TaskConfig(learn=True))
  imitating, solving = (_policy(seen, config, name) for name in config.learners)
  _save(tmp_path, config, imitation=(imitating, imitating), task=(solving, solving))
  follow = metamimic.load(str(tmp_path)).watch(seen[2].demonstration)
  solve = metamimic.load_task(str(tmp_path))
  assert solve.config.pictures == CONFIG.pictures
  observation = environment.set_state(seen[0].states[2])
  larger = np.zeros((SIZE, SIZE + 1, 3), np.uint8)
  for found, wrong in (
    ('missing', {g: v for g, v in observation.items() if g != 'pixels/side'}),
    ((SIZE, SIZE + 1, 3), {**observation, 'pixels/side': larger}),
  ):
    message = re.escape(
      f'the observation has pixels/side {found}; expected ({SIZE}, {SIZE}, 3), as of '
      'an environment of the task with config.pictures'
    )
    for act in (solve, lambda o: follow(o, 0)):
      with pytest.raises(ValueError, match=message):
        act(wrong)


def test_load_task_acts_on_pictures(
  seen: tuple[frames.Seen, ...],
  environment: stepping.ManipulationEnvironment,
  tmp_path: pathlib.Path,
) -> None:
  config = dataclasses.replace(CONFIG, task=config_lib.TaskConfig(learn=True))
  assert config.averages('task') and not config.averages('imitation')
  imitating = _policy(seen, config, seed=1)
  solving, other = (_policy(seen, config, 'task', seed) for seed in (2, 3))
  _save(tmp_path, config, imitation=(imitating, imitating), task=(solving, other))

  observation = environment.set_state(seen[0].states[2])
  action = metamimic.load_task(str(tmp_path))(observation)

  batch = {group: values[None] for group, values in observation.items()}
  np.testing.assert_array_equal(action, solving.actor()(batch)[0])
  assert _moved(action[None], other.actor()(batch))
  loaded = metamimic.load(str(tmp_path)).policy.variables
  for a, b in zip(loaded, imitating.variables, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'network': {'filters': (4, 300_000)}}, 'its policy has'),
    ({'network': {'embedding': 10_000_000}}, 'its policy has'),
    ({'pixels': {'size': 512}, 'network': {'embedding': 2_000}}, 'its policy has'),
    ({'pixels': {'size': 512}, 'network': RESIDUAL}, 'its policy has'),
    ({'pixels': {'look_ahead': (1,) * 50_000}}, 'its policy has'),
    ({'network': {**RESIDUAL, 'torso_blocks': 10_000_000}}, 'its policy has'),
    ({'network': {**RESIDUAL, 'torso_blocks': -1}}, 'network.torso_blocks is -1; exp'),
    ({'network': RESIDUAL}, 'does not hold the policy'),
    ({'pixels': {'size': 100_000}}, 'pixels.size is 100000; expected'),
    ({'pixels': {'cameras': ('back',)}}, "pixels.cameras: no camera 'back'"),
    ({'network': {'filters': (5,)}}, 'does not hold the policy'),
    ({'pixels': {'cameras': ('front',)}}, 'does not hold the policy'),
  ],
)
def test_settings_that_are_not_of_what_is_saved_are_refused(
  changes: dict[str, Any],
  message: str,
  seen: tuple[frames.Seen, ...],
  tmp_path: pathlib.Path,
) -> None:
  policy = _policy(seen)
  _save(tmp_path, CONFIG, imitation=(policy, policy))
  config = dataclasses.replace(
    CONFIG,
    **{
      section: dataclasses.replace(getattr(CONFIG, section), **values)
      for section, values in changes.items()
    },
  )
  config_lib.save(config, str(tmp_path / 'config.json'))
  with pytest.raises((ValueError, checkpoints.DamagedError)) as e:
    metamimic.load(str(tmp_path))
  assert message in str(e.value) and str(tmp_path / 'config.json') in str(e.value)


def test_what_is_decoded_is_how_the_body_is_to_move(
  seen: tuple[frames.Seen, ...],
) -> None:
  config = _config(**PICTURES_ALONE)
  policy = _policy(seen, config)
  batch = _batch(seen)
  found = policy.goal_difference(batch, _bank(seen, config)).numpy()
  assert found.shape == (3, 2, 12)
  pinch = policy.layout.field('pinch_position').slice
  for row, (index, step) in enumerate(batch['goal']):
    for k, ahead in enumerate((1, 3)):
      goal = seen[index].observations['body'][min(step + ahead, STEPS)][pinch]
      # In hundredths of a metre, over the square root of how far ahead it is.
      expected = (goal - batch['body'][row][pinch]) / 0.01 / np.sqrt(ahead)
      np.testing.assert_allclose(found[row, k, 9:], expected, rtol=1e-4, atol=1e-4)


def test_in_hindsight_the_goal_is_what_came_to_be(
  seen: tuple[frames.Seen, ...],
) -> None:
  config = _config(**PICTURES_ALONE)
  policy = _policy(seen, config)
  both = []
  for at in (slice(0, 3), slice(2, 5)):
    observed = {group: values[at] for group, values in seen[2].observations.items()}
    pixels = policy.layout.pictures.stack(observed)
    both.append({'body': observed['body'], policy_lib.PIXELS: pixels})
  now, later = both
  inputs, difference = policy.hindsight(now, later)
  pixels = np.repeat(later[policy_lib.PIXELS][:, None], 2, 1)
  np.testing.assert_array_equal(inputs.pixels, now[policy_lib.PIXELS])
  np.testing.assert_array_equal(inputs.goal_pixels, pixels)
  pinch = policy.layout.field('pinch_position').slice
  moved = (later['body'] - now['body'])[:, pinch] / 0.01
  np.testing.assert_allclose(difference[:, 0, 9:], moved, rtol=1e-4, atol=1e-4)
  # Whoever is shown its body has nothing to decode.
  assert not _policy(seen).decodes and policy.decodes
