"""Settings that a run does without, so that it is not given any by mistake."""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import fnmatch
from typing import Any

from metamimic import config as config_lib
from metamimic import plain

_OFF_POLICY = ('d4pg.*', 'replay.*', 'actor.*')
_OF_CRITICS = ('network.critic_*', 'pixels.tell_critic')
_BOTH = ('task.start_after', 'task.imitation_share')
_FOLLOWING = ('task.start_within', 'task.patience', 'task.demonstration_share')
_UNREAD: Mapping[str, tuple[str, ...]] = {
  'metamimic': ('bc.*', 'task.demonstration_share'),
  'bc': (*_OFF_POLICY, 'task.*', *_OF_CRITICS),
  'bc_no_goal': (*_OFF_POLICY, 'task.*', *_OF_CRITICS),
  'd4pg': (*_OFF_POLICY, 'learner_steps', 'bc.*', *_BOTH, *_FOLLOWING),
  'd4pgfd': (*_OFF_POLICY, 'learner_steps', 'bc.*', *_BOTH),
}
"""By algorithm: settings that nobody reads."""
_READ: Mapping[str, tuple[str, ...]] = {
  'bc': ('actor.update_period',),
  'bc_no_goal': ('actor.update_period', 'task.turned'),
}
"""By algorithm: settings among those that somebody does read."""
_RATES = ('d4pg.encoder_learning_rate', 'task.d4pg.encoder_learning_rate')
_LOOKING = (
  *('pixels.shift', 'network.torso', 'network.torso_blocks', 'network.filters'),
  *('network.embedding', *_RATES),
)
"""Settings of policies that see pictures."""
_SHOWN = ('pixels.goal', 'pixels.look_ahead', 'imitation.look_ahead')
_DECODING = ('pixels.decoding_weight', 'pixels.tell_critic')
_ACTING = (
  *(
    f'task.actor.{f.name}'
    for f in dataclasses.fields(config_lib.ActorConfig)
    if f.name != 'update_period'  # By which a learner publishes, too.
  ),
  *('task.start_within', 'task.patience'),
)
"""Settings of task actors."""
_OF_VALUES = ('critics', 'cloning_weight', 'target_noise', 'action_gradient_clip')
"""Settings of D4PG that have to do with values of actions."""


def unread(config: config_lib.Config) -> list[str]:
  """Returns the dotted names of the settings that a run does without."""
  read = ('task.learn', *_READ.get(config.algorithm, ()))
  patterns = _UNREAD[config.algorithm]
  if config.algorithm == 'metamimic' and not config.task.learn:
    patterns = (*patterns, 'task.*')
  others = {*_unread_of_kinds(config), *_unread_of_pictures(config)}
  return [
    name
    for name in plain.flatten(config_lib.to_dict(config))
    if name in others
    or (
      name not in read
      and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    )
  ]


def _unread_of_kinds(config: config_lib.Config) -> Iterator[str]:
  """Yields what the run has no learners or actors for."""
  if config_lib.IMITATION not in config.learners:
    yield from ('imitation.start_within', 'imitation.early_end')
  if not config.shows:
    yield from _SHOWN
  if config_lib.TASK not in config.actors:
    yield from _ACTING
  if config.imitates_itself(config_lib.TASK):
    yield from (f'task.d4pg.{name}' for name in _OF_VALUES)
  else:
    yield 'task.components'


def _unread_of_pictures(config: config_lib.Config) -> Iterator[str]:
  pixels, residual = config.pixels, config.network.torso == 'residual'
  if not pixels.cameras:
    yield from (
      f'pixels.{f.name}' for f in dataclasses.fields(pixels) if f.name != 'cameras'
    )
    yield from _LOOKING
    return
  yield 'task.turned'
  if not config.needs_frames:
    yield 'pixels.frames'
  if pixels.blind:
    yield from ('pixels.look_ahead', *_LOOKING, *_DECODING)
  if residual:
    yield from _RATES
  else:
    yield 'network.torso_blocks'
  if pixels.goal != 'pictures' or not config.shows:
    yield from _DECODING
  elif not pixels.decoding_weight:
    yield 'pixels.tell_critic'


def check(base: config_lib.Config, config: config_lib.Config) -> None:
  """Refuses settings that were given and that nobody reads.

  Args:
    base: what the settings were before any was given.
    config: what they are now.

  Raises:
    ValueError: the message names each, and what is meant instead.
  """
  a, b = (plain.flatten(config_lib.to_dict(c)) for c in (base, config))
  found = [name for name in unread(config) if a[name] != b[name]]
  if found:
    lines = [f'  {name}: expected {_instead(name, config, b)}' for name in found]
    raise ValueError(
      'this run does without settings that are given:\n' + '\n'.join(lines)
    )


def _instead(name: str, config: config_lib.Config, names: Collection[str]) -> str:
  others = {f'task.{name}'} & set(names) - set(unread(config))
  if config.algorithm in ('d4pg', 'd4pgfd') and others:
    return others.pop()
  if not config.pixels.cameras and (name.startswith('pixels.') or name in _LOOKING):
    return 'pixels.cameras with it'
  learn = config.algorithm == 'metamimic'
  for instead, changed in (
    (
      'task.learn with it, for a task policy beside the other',
      _with(config, 'task', learn=learn),
    ),
    (
      'task.learner self_imitation with it',
      _with(config, 'task', learn=learn, learner='self_imitation'),
    ),
    ('pixels.goal pictures with it', _with(config, 'pixels', goal='pictures')),
    ('network.torso residual with it', _with(config, 'network', torso='residual')),
  ):
    if name not in unread(changed):
      return instead
  return 'none'


def _with(config: config_lib.Config, section: str, **values: Any) -> config_lib.Config:
  part = dataclasses.replace(getattr(config, section), **values)
  changes: dict[str, Any] = {section: part}
  return dataclasses.replace(config, **changes)
