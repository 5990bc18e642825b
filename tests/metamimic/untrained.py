"""A run directory with policies that were never trained."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import drafts
from metamimic import loading
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

TASK = 'lift_brick'
STEPS = 12
TERMS = {'arm': 0.1, 'fingers': 0.1, 'pinch': 0.02, 'brick': 0.02}


def _demonstration(number: int) -> types.Demonstration:
  environment = tasks.load(TASK, seed=number)
  observations = [environment.reset().observation]
  states = [environment.get_state()]
  actions = np.random.default_rng(number).uniform(-0.5, 0.5, (STEPS, 9))
  for action in actions:
    observations.append(environment.advance(action.astype(np.float32)))
    states.append(environment.get_state())
  return types.Demonstration(
    f'demo_{number}',
    TASK,
    'lift',
    {group: np.stack([o[group] for o in observations]) for group in observations[0]},
    np.stack(states),
    actions.astype(np.float32),
  )


def make_run(
  path: pathlib.Path, pixels: config_lib.PixelsConfig = config_lib.Config.pixels
) -> pathlib.Path:
  """Makes `path` a run directory and, in it, demonstrations.hdf5: 1 + 2 of them."""
  demonstrations = types.DemonstrationSet(
    TASK, tuple(_demonstration(i) for i in range(3)), train=(0,), valid=(1, 2)
  )
  storage.save(str(path / 'demonstrations.hdf5'), demonstrations)
  tiny = presets.PRESETS['tiny'][1]
  task = dataclasses.replace(tiny.task, learn=True)
  config = dataclasses.replace(
    tiny,
    seed=4,
    task=task,
    pixels=pixels,
    demonstrations=str(path / 'demonstrations.hdf5'),
  )
  config_lib.save(config, str(path / 'config.json'))
  run_description.write(
    str(path),
    {
      'task': TASK,
      'reward': 'envs.reward_library:LIFT_BRICK',
      'terms': list(TERMS),
      'temperatures': TERMS,
      'declaration': rewards.declaration(reward_library.LIFT_BRICK),
    },
  )
  with drafts.turn(path):
    draft = drafts.begin(path)
  for learner, steps in (('imitation', 70), ('task', 50)):
    layout = preparation.seen_layout(config, TASK)
    policy = policy_lib.create(learner, layout, config, demonstrations)
    parts = {
      loading.saved_name(config, learner): policy.network,
      loading.saved_name(config, learner, 'encoder'): policy.encoder,
    }
    checkpoint = tf.train.Checkpoint(**parts, features=policy.features)

    def write(folder: pathlib.Path, of: tf.train.Checkpoint = checkpoint) -> None:
      of.write(loading.state_path(folder))

    draft.add_learner(learner, steps, write)
  draft.complete({}, lambda: 0.0, 0.0)
  return path
