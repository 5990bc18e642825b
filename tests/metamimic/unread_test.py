"""Tests of metamimic.unread."""

from collections.abc import Mapping
import functools
import operator
from typing import Any

import pytest

from metamimic import config
from metamimic import plain
from metamimic import presets
from metamimic import unread

PLAIN = config.Config()
SEEING: Mapping[str, Any] = {'pixels.cameras': ('front',)}
ALONE: Mapping[str, Any] = {**SEEING, 'pixels.goal': 'pictures'}
ITSELF: Mapping[str, Any] = {'task.learn': True, 'task.learner': 'self_imitation'}


def _with(changes: Mapping[str, Any]) -> config.Config:
  values = config.to_dict(PLAIN)
  for name, value in changes.items():
    *sections, field = name.split('.')
    functools.reduce(operator.getitem, sections, values)[field] = value
  return config.from_dict(values)


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    (
      {'algorithm': 'd4pg', 'd4pg.discount': 0.5, 'learner_steps': 7},
      [
        'learner_steps: expected task.learner_steps',
        'd4pg.discount: expected task.d4pg.discount',
      ],
    ),
    (
      {'task.learner_steps': 100, 'bc.batch_size': 64},
      [
        'bc.batch_size: expected none',
        'task.learner_steps: expected task.learn with it, for a task policy beside the '
        'other',
      ],
    ),
    (
      {'task.learn': True, 'task.demonstration_share': 0.5},
      ['task.demonstration_share: expected none'],
    ),
    ({'task.demonstration_share': 0.5}, ['task.demonstration_share: expected none']),
    (
      {'algorithm': 'bc', 'd4pg.batch_size': 64, 'actor.update_period': 1.0},
      ['d4pg.batch_size: expected none'],
    ),
    (
      {'algorithm': 'bc', 'imitation.start_within': 0.5, 'imitation.early_end': 0.5},
      ['imitation.start_within: expected none', 'imitation.early_end: expected none'],
    ),
    (
      {'algorithm': 'd4pg', 'bc.batch_size': 64, 'task.start_within': 0.5},
      ['bc.batch_size: expected none', 'task.start_within: expected none'],
    ),
    (
      {'algorithm': 'd4pg', 'imitation.look_ahead': (1,)},
      ['imitation.look_ahead: expected none'],
    ),
    (
      {'algorithm': 'd4pgfd', 'task.start_within': 0.5, 'task.imitation_share': 0.5},
      ['task.imitation_share: expected none'],
    ),
    (
      {'task.learn': True, 'task.components': 9},
      ['task.components: expected task.learner self_imitation with it'],
    ),
    (
      {**ITSELF, 'task.d4pg.critics': 3, 'task.d4pg.discount': 0.9},
      ['task.d4pg.critics: expected none'],
    ),
    (
      {'algorithm': 'bc', 'network.critic_width': 64, 'network.policy_width': 64},
      ['network.critic_width: expected none'],
    ),
    (
      {'task.learn': True, 'task.imitation_share': 1.0, 'task.actor.sigma': 0.3},
      ['task.actor.sigma: expected none'],
    ),
    # Without pictures.
    (
      {'algorithm': 'd4pg', 'd4pg.encoder_learning_rate': 0.1},
      ['d4pg.encoder_learning_rate: expected pixels.cameras with it'],
    ),
    (
      {'pixels.size': 84, 'network.torso': 'residual', 'pixels.goal': 'pictures'},
      [
        'pixels.size: expected pixels.cameras with it',
        'pixels.goal: expected pixels.cameras with it',
        'network.torso: expected pixels.cameras with it',
      ],
    ),
    (
      {'pixels.blind': True, 'd4pg.encoder_learning_rate': 0.1},
      [
        'pixels.blind: expected pixels.cameras with it',
        'd4pg.encoder_learning_rate: expected pixels.cameras with it',
      ],
    ),
    # With pictures.
    (
      {**SEEING, 'network.torso_blocks': 3},
      ['network.torso_blocks: expected network.torso residual with it'],
    ),
    (
      {**SEEING, 'network.torso': 'residual', 'd4pg.encoder_learning_rate': 0.1},
      ['d4pg.encoder_learning_rate: expected none'],
    ),
    (
      {**SEEING, 'pixels.decoding_weight': 2.0, 'pixels.tell_critic': False},
      [
        'pixels.decoding_weight: expected pixels.goal pictures with it',
        'pixels.tell_critic: expected pixels.goal pictures with it',
      ],
    ),
    (
      {**ALONE, 'pixels.decoding_weight': 0.0, 'pixels.tell_critic': False},
      ['pixels.tell_critic: expected none'],
    ),
    (
      {**SEEING, 'pixels.blind': True, 'pixels.shift': 2, 'pixels.size': 32},
      ['pixels.shift: expected none'],
    ),
    (
      {**ALONE, 'algorithm': 'd4pg'},
      ['pixels.goal: expected none'],
    ),
    (
      {**ALONE, 'algorithm': 'bc', 'pixels.tell_critic': False},
      ['pixels.tell_critic: expected none'],
    ),
    (
      {**SEEING, 'algorithm': 'd4pg', 'pixels.frames': '/frames'},
      ['pixels.frames: expected none'],
    ),
    (
      {**SEEING, 'pixels.blind': True, 'pixels.tell_critic': False},
      ['pixels.tell_critic: expected none'],
    ),
    (
      {**SEEING, 'task.learn': True, 'task.turned': False},
      ['task.turned: expected none'],
    ),
  ],
)
def test_settings_that_nobody_reads_are_refused(
  changes: dict[str, Any], expected: list[str]
) -> None:
  with pytest.raises(ValueError) as e:
    unread.check(PLAIN, _with(changes))
  assert str(e.value).splitlines() == [
    'this run does without settings that are given:',
    *(f'  {line}' for line in expected),
  ]
  # What nobody gave now, as on resume, is of no account.
  unread.check(_with(changes), _with(changes))


@pytest.mark.parametrize(
  'changes',
  [
    {'task.learn': True, 'task.learner_steps': 100, 'd4pg.discount': 0.5},
    {'algorithm': 'd4pg', 'task.learner_steps': 100, 'seed': 3},
    {'algorithm': 'd4pgfd', 'task.demonstration_share': 0.5},
    {'algorithm': 'bc', 'bc.batch_size': 64, 'learner_steps': 7},
    {'algorithm': 'bc_no_goal', 'task.turned': False},
    {**ITSELF, 'task.components': 3, 'task.d4pg.n_step': 7},
    {**SEEING, 'pixels.size': 32, 'pixels.look_ahead': (1,), 'pixels.shift': 0},
    {**SEEING, 'd4pg.encoder_learning_rate': 1e-3, 'network.filters': (8, 8)},
    {**SEEING, 'network.torso': 'residual', 'network.torso_blocks': 1},
    {**ALONE, 'pixels.decoding_weight': 0.5, 'pixels.tell_critic': False},
    {**SEEING, 'pixels.blind': True, 'pixels.size': 32, 'pixels.frames': '/frames'},
    {**ALONE, 'algorithm': 'bc', 'pixels.look_ahead': (3,)},
  ],
)
def test_settings_that_somebody_reads_are_taken(changes: dict[str, Any]) -> None:
  found = _with(changes)
  assert not set(changes) & set(unread.unread(found))
  unread.check(PLAIN, found)


@pytest.mark.parametrize('name', list(presets.PRESETS))
def test_they_are_names_of_settings(name: str) -> None:
  preset = presets.PRESETS[name][1]
  found = unread.unread(preset)
  assert set(found) < set(plain.flatten(config.to_dict(preset)))
  assert 'task.learn' not in found and 'bc.batch_size' in found
