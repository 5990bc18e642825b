"""What the nodes of a run must agree on, and what is told of it later: `run.json`.

The task, the rewards with their calibrated temperatures, and where pictures lie.
"""

from collections.abc import Callable, Mapping
import json
import os
import time
from typing import Any

from envs import observations
from envs import rewards
from envs import tasks
from metamimic import files

_FILE = 'run.json'
_DRAWN = (
  'Pictures are drawn in another way here. Where a GPU draws on one host and none on '
  'another, set MUJOCO_GL=osmesa, which draws alike on both, before a run begins; one '
  'that began so is resumed with it. Else begin a new run.'
)


def _are_texts(value: object) -> bool:
  return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_texts_by_name(value: object) -> bool:
  return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
  'task': (lambda v: isinstance(v, str) and v in tasks.TASKS, 'the name of a task'),
  'reward': (lambda v: isinstance(v, str), 'package.module:attribute'),
  'terms': (_are_texts, 'a list of names'),
  'temperatures': (files.are_numbers, 'numbers by term'),
  'training_reward': (lambda v: isinstance(v, str), 'package.module:attribute'),
  'training_temperatures': (files.are_numbers, 'numbers by term'),
  'declaration': (_are_texts_by_name, 'a text by term'),
  'training_declaration': (_are_texts_by_name, 'a text by term'),
  'frames': (_are_texts_by_name, 'a file by group'),
  'started': (files.is_number, 'seconds'),
}
"""Of run.json: what is good, and how to call it."""


def agree(run_dir: str, found: Mapping[str, Any]) -> None:
  """Writes `run.json`; that of a resumed run must say the same.

  Raises:
    ValueError: it says something else, or is damaged.
  """
  try:
    before = read(run_dir)
  except FileNotFoundError:
    write(run_dir, {**found, 'started': time.time()})
    return
  moved = before.get('frames') != found['frames'] and _names(before) == _names(found)
  if moved:  # Their names tell what was drawn.
    before['frames'] = found['frames']
    write(run_dir, before)
  for key, value in found.items():
    if before.get(key) != value:
      why = _DRAWN if key == 'frames' else 'The reward has changed: begin a new run.'
      raise ValueError(
        f'{run_dir}/{_FILE}: the run began with {key} {before.get(key)}; now it is '
        f'{value}. {why}'
      )


def seconds_running(run_dir: str | os.PathLike[str], now: float | None = None) -> float:
  """Returns for how long a run had a launcher, breaks between launches left out.

  Args:
    run_dir: a run directory.
    now: what the time is, if the last launcher is still there (time.time()). Of one
      that was killed, its last event counts as its end.

  Raises:
    OSError: there is no events.jsonl, as on Vertex AI, or it cannot be read.
  """
  path = os.path.join(run_dir, 'events.jsonl')
  seconds = begun = last = 0.0
  with open(path) as f:
    for line in f:
      try:
        event, at = (found := json.loads(line))['event'], float(found['wall_time'])
      except (ValueError, KeyError, TypeError):
        continue  # Written as a disk was full, or the power went.
      if event == 'launch':
        seconds += last - begun
        begun = at
      last = at
  return seconds + (last if now is None else now) - begun


def _names(description: Mapping[str, Any]) -> dict[str, str]:
  """Returns the names of the files of pictures, wherever they lie, by group."""
  drawn = description.get('frames', {})
  return {group: os.path.basename(path) for group, path in drawn.items()}


def write(run_dir: str, description: Mapping[str, Any]) -> None:
  """Writes what `loading.load` needs beside the configuration: at least `task`."""
  files.write_json(os.path.join(run_dir, _FILE), description)


def read(run_dir: str) -> dict[str, Any]:
  """Reads what `write` wrote.

  Raises:
    FileNotFoundError: `run_dir` is no run.
    ValueError: the file is damaged; the message names it, the field and what was
      expected.
  """
  path = os.path.join(run_dir, _FILE)
  try:
    found = files.read_json(path)
  except FileNotFoundError as e:
    raise FileNotFoundError(
      f'{path} is missing: {run_dir} is not a run directory'
    ) from e
  for name, (is_good, expected) in _FIELDS.items():
    # Only a run that has been prepared has all of them.
    if (name in found or name == 'task') and not is_good(found.get(name)):
      raise ValueError(
        f'{path}: {name} is {found.get(name)!r:.100}; expected {expected}'
      )
  return found


def reward(run_dir: str) -> rewards.RewardFunction:
  """Returns the reward that a run is measured by, and imports it.

  Args:
    run_dir: a run directory.

  Raises:
    FileNotFoundError: `run_dir` is no run.
    ValueError: the reward cannot be imported any more or has changed, or the run has
      none.
  """
  return _reward(run_dir, '', tasks.get(read(run_dir)['task']).layout)


def training_reward(
  run_dir: str, layout: observations.Layout
) -> rewards.RewardFunction:
  """Returns the reward that a run's actors are given, and imports it.

  Args:
    run_dir: a run directory.
    layout: of what it is from; see `preparation.actor_layout`.

  Raises:
    FileNotFoundError: `run_dir` is no run.
    ValueError: the reward cannot be imported any more or has changed, or the run has
      none.
  """
  return _reward(run_dir, 'training_', layout)


def _reward(
  run_dir: str, whose: str, layout: observations.Layout
) -> rewards.RewardFunction:
  """Imports a reward, which must be what it was when the run began."""
  about, fields = read(run_dir), ('reward', 'temperatures', 'declaration')
  for field in fields:
    if whose + field not in about:
      raise ValueError(f'{run_dir}/{_FILE}: no {whose}{field}; expected that of a run')
  name, temperatures, before = (about[whose + field] for field in fields)
  found = rewards.load(name, layout, temperatures)
  now = rewards.declaration(found)
  if now != before:
    raise ValueError(
      f'{run_dir}/{_FILE}: the run has the reward {name}, declared as {before}; '
      f'now it is {now}'
    )
  return found
