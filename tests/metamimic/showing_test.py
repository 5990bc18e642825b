"""Tests of metamimic.showing: who is drawn beside a demonstration, and for how long."""

import pathlib

import numpy as np
import pytest

from envs import rendering
from metamimic import controllers
from metamimic import evaluation
from metamimic import showing
from metamimic import video
from metamimic.demonstrations import recording
from metamimic.demonstrations import types


@pytest.fixture(name='demonstrations', scope='module')
def demonstrations_fixture() -> types.DemonstrationSet:
  rendering.choose_gl()
  demonstrations, _ = recording.record('reach_duplo', train=1, valid=1, seed=0)
  return demonstrations


def test_solution_begins_as_the_demonstration_and_ends_with_success(
  demonstrations: types.DemonstrationSet, tmp_path: pathlib.Path
) -> None:
  environment = evaluation.make_task_environments(demonstrations)[0]
  demonstration = demonstrations.demonstrations[1]
  first = int(np.flatnonzero(demonstration.rewards)[0]) + 1
  actions = iter(demonstration.actions)
  seen = []

  def act(batch: controllers.Batch) -> np.ndarray:
    seen.append({group: len(values) for group, values in batch.items()})
    return next(actions)[None]

  folder = tmp_path / 'videos'
  path = showing.write_solution(
    str(folder), 'd4pg', environment, demonstrations, act, 1
  )
  assert path == str(folder / f'{demonstration.name}-d4pg.mp4')
  # As soon as the task is solved the policy is done; its last picture stays.
  assert len(seen) == first
  assert set(seen[0].values()) == {1}
  frames = video.frames(path).astype(int)
  assert len(frames) == demonstration.num_steps + 1
  # Without the captions, which differ.
  left, right = frames[:, -200:, :320], frames[:, -200:, -320:]
  assert np.abs(left[: first + 1] - right[: first + 1]).mean() < 2
  assert np.abs(left[0] - left[first]).mean() > 2
