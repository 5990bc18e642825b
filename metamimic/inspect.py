"""Prints what is in a file of demonstrations, and plays one of them to a video.

    python -m metamimic.inspect data/lift_brick.hdf5 --demonstration demo_3 \
        --video demo_3.mp4
"""

import collections
from collections.abc import Sequence
import dataclasses
import os
import sys

import numpy as np
from rich import console as rich_console
from rich import table as rich_table
import tyro

from envs import rendering
from envs import tasks
from metamimic import video
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_STEP = 0.04  # s, a control step
_FPS = 25  # 1 / _STEP: the video runs at the speed of the demonstration


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Prints what is in a file of demonstrations, and plays one of them to a video."""

  file: tyro.conf.Positional[str]
  """HDF5 file of demonstrations."""
  demonstration: str = ''
  """Demonstration to tell more about, and to play; the first one unless given."""
  video: str = ''
  """MP4 file to play the demonstration to; a file of that name is replaced."""


def main(arguments: Arguments) -> None:
  """Prints and plays.

  Raises:
    ValueError: the file or the name of the demonstration is not good.
    OSError: a file cannot be read or written.
    RuntimeError: a video is asked for and this machine cannot render.
  """
  if arguments.video and not arguments.video.endswith('.mp4'):
    raise ValueError(f'video is {arguments.video!r}; expected a name that ends in .mp4')
  demonstrations = storage.load(arguments.file)
  by_name = {d.name: d for d in demonstrations.demonstrations}
  name = arguments.demonstration or next(iter(by_name))
  if name not in by_name:
    raise ValueError(
      f'{arguments.file}: no demonstration {name!r}; expected one of '
      f'{", ".join(by_name)}'
    )
  # Whoever recorded the file chose the names of its experts' parameters.
  console = rich_console.Console(highlight=False, markup=False, emoji=False)
  _print_file(console, arguments.file, demonstrations)
  if len(demonstrations.skills) > 1:
    console.print(_skills(demonstrations))
  console.print(_fields(demonstrations))
  console.print(_experts(demonstrations))
  if arguments.demonstration:
    _print_demonstration(console, by_name[name])
  if arguments.video:
    video.write(arguments.video, play(by_name[name]), fps=_FPS)
    console.print(
      f'{arguments.video}: {name}, {by_name[name].num_steps * _STEP:.1f} s',
      soft_wrap=True,
    )


def play(
  demonstration: types.Demonstration, size: tuple[int, int] = (240, 320)
) -> np.ndarray:
  """Returns a picture of each state, uint8 (T + 1, height, width, 3).

  Args:
    demonstration: what to play.
    size: height and width of the pictures, in pixels.

  Raises:
    RuntimeError: this machine cannot render.
    ValueError: the states are not of this version of the task.
  """
  renderer = rendering.Renderer(tasks.load(demonstration.task, seed=0), size)
  return np.stack([*renderer.render_states(demonstration.states)])


def _print_file(
  console: rich_console.Console, path: str, demonstrations: types.DemonstrationSet
) -> None:
  console.print(f'{path}: {os.path.getsize(path) / 1e6:.1f} MB', soft_wrap=True)
  actions = 'recorded' if storage.has_actions(path) else 'not recorded'
  table = rich_table.Table(
    title=f'{demonstrations.task}, actions {actions}', title_justify='left'
  )
  for heading in ('split', 'demonstrations', 'successes', 'steps', 'mean', 'seconds'):
    table.add_column(heading, justify='left' if heading == 'split' else 'right')
  for split in ('train', 'valid'):
    chosen = demonstrations.split(split)
    if not chosen:
      table.add_row(split, '0', '0', '', '', '')
      continue
    steps = [d.num_steps for d in chosen]
    table.add_row(
      split,
      str(len(chosen)),
      str(sum(d.success for d in chosen)),
      f'{min(steps)} to {max(steps)}',
      f'{np.mean(steps):.0f}',
      f'{min(steps) * _STEP:.1f} to {max(steps) * _STEP:.1f}',
    )
  console.print(table)


def _skills(demonstrations: types.DemonstrationSet) -> rich_table.Table:
  table = rich_table.Table(title='demonstrations of each skill', title_justify='left')
  table.add_column('skill')
  table.add_column('train', justify='right')
  table.add_column('valid', justify='right')
  shown = {
    split: collections.Counter(d.skill for d in demonstrations.split(split))
    for split in ('train', 'valid')
  }
  for skill in demonstrations.skills:
    table.add_row(skill, *(str(counts[skill]) for counts in shown.values()))
  return table


def _fields(demonstrations: types.DemonstrationSet) -> rich_table.Table:
  layout = tasks.get(demonstrations.task).layout
  everything = {
    group: np.concatenate(
      [d.observations[group] for d in demonstrations.demonstrations]
    )
    for group in demonstrations.widths
  }
  table = rich_table.Table(title='observations', title_justify='left')
  for heading in ('group', 'field', 'size', 'lowest', 'highest'):
    is_text = heading in ('group', 'field')
    table.add_column(heading, justify='left' if is_text else 'right')
  for name, field in layout.fields.items():
    values = layout.get(everything, name)
    table.add_row(
      field.group,
      name,
      str(values.shape[-1]),
      f'{values.min():.3f}',
      f'{values.max():.3f}',
    )
  return table


def _experts(demonstrations: types.DemonstrationSet) -> rich_table.Table:
  table = rich_table.Table(title='experts', title_justify='left')
  table.add_column('parameter')
  table.add_column('train', justify='right')
  table.add_column('valid', justify='right')
  names = dict.fromkeys(n for d in demonstrations.demonstrations for n in d.expert)
  for name in names:
    table.add_row(
      _plain(name),
      *(
        _span([d.expert[name] for d in demonstrations.split(split) if name in d.expert])
        for split in ('train', 'valid')
      ),
    )
  return table


def _span(values: Sequence[object]) -> str:
  """Returns what values there are, briefly."""
  numbers = [v for v in values if isinstance(v, (int, float))]
  if len(numbers) == len(values) and len(set(numbers)) > 1:
    return f'{min(numbers):.3g} to {max(numbers):.3g}'
  distinct = list(
    dict.fromkeys(
      f'{v:.3g}' if isinstance(v, float) else _plain(str(v)) for v in values
    )
  )
  return ', '.join(distinct[:3]) + (', ...' if len(distinct) > 3 else '')


def _plain(text: str) -> str:
  """Returns a text without what a terminal would do something about."""
  return ''.join(c if c.isprintable() else '?' for c in text[:100])


def _print_demonstration(
  console: rich_console.Console, demonstration: types.Demonstration
) -> None:
  solved = np.flatnonzero(demonstration.rewards)
  when = f'solved from step {solved[0] + 1} on' if len(solved) else 'never solved'
  console.print(
    f'{demonstration.name}: {demonstration.num_steps} steps '
    f'({demonstration.num_steps * _STEP:.1f} s), {when}',
  )
  console.print(f'  skill: {demonstration.skill}')
  for name, value in demonstration.expert.items():
    console.print(f'  {_plain(name)}: {_span([value])}')


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=Arguments.__doc__))
  except (ValueError, OSError, RuntimeError) as e:
    sys.exit(f'error: {e}')
