"""Tests of envs.rewards and of the declarations in envs.reward_library."""

from collections.abc import Callable
import dataclasses
import importlib
import math
import pathlib
from typing import Any, cast

import numpy as np
import pytest

from envs import distances
from envs import observations
from envs import pictures as pictures_lib
from envs import reward_library
from envs import rewards
from envs import tasks
from tests.envs import observed

LAYOUT = observed.LAYOUT


def _term(name: str = 'brick', weight: float = 1.0, **settings: Any) -> rewards.Term:
  return rewards.Term(name, distances.Euclidean('brick/position'), weight, **settings)


def test_lifting_is_rewarded_wherever_it_is_done() -> None:
  layout = tasks.load('lift_brick', 0).layout
  reward = rewards.load(
    reward_library.RELATIVE['lift_brick'],
    layout,
    {'fingers': 0.1, 'reach': 0.015, 'lift': 0.02},
  )
  here = observed.zeros(layout=layout)
  there = {group: values.copy() for group, values in here.items()}
  for name in ('pinch_position', 'brick/position'):
    layout.get(there, name)[:] += [0.1, -0.2, 0.0]
  assert reward(here, there).total == pytest.approx(1)
  # The hand goes up with it.
  for name in ('pinch_position', 'brick/position'):
    layout.get(there, name)[2] += 0.02
  result = reward(here, there)
  assert result.terms == {
    'fingers': 1,
    'tilt': 1,
    'reach': pytest.approx(1),
    'reach_turn': 1,
    'lift': pytest.approx(math.exp(-1), abs=1e-4),
  }


def test_relative_rewards_do_not_see_where_all_of_it_is() -> None:
  layout = tasks.load('stack_2_bricks', 0).layout
  reward = rewards.load(
    reward_library.RELATIVE['stack_2_bricks'], layout, {'fingers': 0.1, 'reach': 0.015}
  )
  here = observed.zeros(layout=layout)
  there = {group: values.copy() for group, values in here.items()}
  for name in ('pinch_position', 'base/position', 'top/position'):
    layout.get(there, name)[:] += [0.1, -0.2, 0.0]
  assert reward(here, there).total == pytest.approx(1)
  layout.get(there, 'top/position')[0] += 0.015
  result = reward(here, there)
  assert result.terms == {
    'fingers': 1,
    'tilt': 1,
    'reach': pytest.approx(math.exp(-1), abs=1e-4),
    'reach_turn': 1,
    'stack': pytest.approx(math.exp(-0.5), abs=1e-4),
    'stack_turn': 1,
  }


def test_a_term_falls_to_1_over_e_at_its_temperature() -> None:
  reward = rewards.Reward([_term(temperature=0.25)], LAYOUT)
  for distance, expected in ((0, 1.0), (0.25, 0.36787944), (0.5, 0.13533528)):
    result = reward(observed.zeros(), observed.having(brick__position=[0, distance, 0]))
    assert isinstance(result, rewards.RewardResult)
    assert result.total == pytest.approx(expected, abs=1e-8)
    assert result.terms == {'brick': pytest.approx(expected, abs=1e-8)}


def test_the_total_is_the_weighted_mean_of_the_terms() -> None:
  reward = rewards.Reward(
    [
      _term(weight=3.0, temperature=1.0),
      rewards.Term(
        'pinch', distances.Euclidean('pinch_position'), 1.0, temperature=2.0
      ),
    ],
    LAYOUT,
  )
  goal = observed.having(
    brick__position=[math.log(2), 0, 0], pinch_position=[math.log(16), 0, 0]
  )
  total, terms = reward(observed.zeros(), goal)
  assert list(terms) == ['brick', 'pinch']
  assert terms == {'brick': pytest.approx(0.5), 'pinch': pytest.approx(0.25)}
  assert total == pytest.approx(0.75 * 0.5 + 0.25 * 0.25)
  assert reward(goal, goal) == (1.0, {'brick': 1.0, 'pinch': 1.0})


_KINDS: dict[str, distances.Distance] = {
  'arm': distances.Angles('arm_cos', 'arm_sin'),
  'fingers': distances.Euclidean('fingers'),
  'brick': distances.Euclidean('brick/position'),
  'turn': distances.Rotation('brick/orientation'),
}
_ALL = rewards.Reward(
  [
    rewards.Term(name, distance, weight, temperature=tau)
    for (name, distance), weight, tau in zip(
      _KINDS.items(), (1.0, 2.0, 3.0, 4.0), (4.0, 3.0, 2.0, 1.0), strict=True
    )
  ],
  LAYOUT,
)


def _slow_distances(a: rewards.Observation, b: rewards.Observation) -> dict[str, float]:
  """Computes the distances of `_KINDS` in another way, number by number."""
  body, goal = a['body'].astype(float), b['body'].astype(float)
  arm = 0.0
  for j in range(6):
    here, there = math.atan2(body[6 + j], body[j]), math.atan2(goal[6 + j], goal[j])
    turn = (there - here + math.pi) % (2 * math.pi) - math.pi
    arm += turn**2
  fingers = sum((body[12 + j] - goal[12 + j]) ** 2 for j in range(3))
  objects, goals = a['objects'].astype(float), b['objects'].astype(float)
  brick = sum((objects[j] - goals[j]) ** 2 for j in range(3))
  cosine = abs(sum(objects[j] * goals[j] for j in range(3, 7)))
  return {
    'arm': math.sqrt(arm),
    'fingers': math.sqrt(fingers),
    'brick': math.sqrt(brick),
    'turn': 2 * math.acos(min(cosine, 1)),
  }


def _row(batch: rewards.Observation, i: int) -> rewards.Observation:
  return {group: values[i] for group, values in batch.items()}


def test_reward_agrees_with_a_slow_reference() -> None:
  here, there = observed.random(50), observed.random(50)
  there = {group: values[::-1] for group, values in there.items()}
  for i in range(50):
    distances = _slow_distances(_row(here, i), _row(there, i))
    taus = rewards.temperatures(_ALL)
    terms = {name: math.exp(-distances[name] / tau) for name, tau in taus.items()}
    total = sum(t.weight / 10 * terms[t.name] for t in _ALL.terms)
    result = _ALL(_row(here, i), _row(there, i))
    assert result.total == pytest.approx(total, abs=1e-5)
    assert result.terms == {k: pytest.approx(v, abs=1e-5) for k, v in terms.items()}


def test_batched_distances_equal_single_ones() -> None:
  here, there = observed.random(3, 4), observed.random(4)
  batched = _ALL.distances(here, there)
  assert [d.shape for d in batched] == [(3, 4)] * 4
  for i in range(3):
    for j in range(4):
      single = _ALL.distances(_row(_row(here, i), j), _row(there, j))
      for one, all_ in zip(single, batched, strict=True):
        assert one == pytest.approx(all_[i, j], rel=1e-6)


@pytest.mark.parametrize(
  'terms, message',
  [
    ([], r'^terms are \[\]; expected one or more, distinct$'),
    (
      [_term('a'), _term('a')],
      r"^terms are \['a', 'a'\]; expected one or more, distinct$",
    ),
    ([_term(weight=0)], r"^Term\(name='brick'.*: expected weight and temperature abov"),
    ([_term(weight=-1)], 'weight=-1.*: expected weight and temperature above 0'),
    ([_term(weight=math.nan)], 'weight=nan.*: expected weight and temperature above 0'),
    ([_term(weight=math.inf)], 'weight=inf.* above 0 and finite$'),
    ([_term(temperature=0)], r'temperature=0\): expected weight and temperature abo'),
    ([_term(temperature=-0.1)], r'temperature=-0\.1\): expected weight and temp'),
    ([_term(temperature=math.nan)], r'temperature=nan\): expected weight and temp'),
  ],
)
def test_declarations_are_checked(terms: list[rewards.Term], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    rewards.Reward(terms)


@pytest.mark.parametrize(
  'distance',
  [
    distances.Euclidean('cube/position'),
    distances.Angles('cube/position', 'arm_sin'),
    distances.Angles('arm_cos', 'cube/position'),
    distances.Rotation('cube/position'),
    distances.Between('cube/position', 'pinch_position'),
    distances.Between('pinch_position', 'cube/position'),
    distances.HeadingBetween('cube/position', 'brick/orientation'),
    distances.HeadingBetween('brick/orientation', 'cube/position'),
    distances.Tilt('cube/position'),
    distances.Height('cube/position'),
  ],
)
def test_unknown_fields_are_refused_when_bound(distance: distances.Distance) -> None:
  reward = rewards.Reward([rewards.Term('x', distance, 1.0)])
  message = r"^no field 'cube/position' in the observation; there are \['arm_cos', "
  with pytest.raises(ValueError, match=message):
    reward.bind(LAYOUT)


def test_a_declaration_must_be_bound_before_it_is_called() -> None:
  reward = rewards.Reward([_term(temperature=1.0)])
  message = r'^this reward is a declaration; bind\(layout\) it before calling$'
  with pytest.raises(ValueError, match=message):
    reward(observed.zeros(), observed.zeros())
  assert reward.bind(LAYOUT)(observed.zeros(), observed.zeros()).total == 1


def test_terms_need_temperatures_before_it_is_called() -> None:
  reward = rewards.Reward([_term('a'), _term('b', temperature=1.0)], LAYOUT)
  message = r"^terms \['a'\] have no temperature; calibrate the reward$"
  with pytest.raises(ValueError, match=message):
    reward(observed.zeros(), observed.zeros())


def _ramp(*positions: float) -> rewards.Observation:
  """Returns a sequence in which the brick moves along x."""
  observation = observed.zeros(len(positions))
  LAYOUT.get(observation, 'brick/position')[:, 0] = positions
  return observation


def test_calibration_makes_the_term_one_half_at_the_mean_distance() -> None:
  reward = rewards.Reward([_term()], LAYOUT)
  # Two steps apart it moves by 2, 2, 2, 6, 10 (mean 4.4), three apart by 3, 3, 7, 11.
  sequence = _ramp(0, 1, 2, 3, 4, 9, 14)
  for frames, distance in (((2,), 4.4), ((3,), 6.0), ((2, 3), 46 / 9), ((2, 99), 4.4)):
    calibrated = rewards.calibrate(reward, [sequence], frames=frames)
    tau = float(f'{distance / math.log(2):.3g}')
    assert rewards.temperatures(calibrated) == {'brick': tau}
    assert calibrated.layout is LAYOUT
  here, there = _row(sequence, 0), _row(sequence, 2)
  exact = rewards.calibrate(reward, [sequence], frames=(2,))
  assert exact(here, there).total == pytest.approx(0.5 ** (2 / 4.4), abs=1e-3)


def test_calibration_takes_the_value_wanted() -> None:
  reward = rewards.Reward([_term()], LAYOUT)
  calibrated = rewards.calibrate(reward, [_ramp(0, 1, 2)], (1,), value=math.exp(-0.5))
  assert rewards.temperatures(calibrated) == {'brick': 2.0}


def test_calibration_leaves_out_what_stands_still() -> None:
  reward = rewards.Reward([_term()], LAYOUT)
  still = _ramp(*[0.0] * 50)
  moving = _ramp(0, 1, 2, 3)
  alone = rewards.calibrate(reward, [moving])
  assert rewards.temperatures(rewards.calibrate(reward, [still, moving])) == (
    rewards.temperatures(alone)
  )
  with pytest.raises(
    ValueError, match=r"^term 'brick': nothing moves in the demonstrations$"
  ):
    rewards.calibrate(reward, [still])
  with pytest.raises(ValueError, match=r"^term 'brick': nothing moves"):
    rewards.calibrate(reward, [_ramp(0, 1)])  # Shorter than what it is judged by.


def test_calibration_keeps_temperatures_that_are_given() -> None:
  reward = rewards.Reward(
    [_term('a', weight=2.0, temperature=0.123456), _term('b')], LAYOUT
  )
  calibrated = rewards.calibrate(reward, [_ramp(0, 1, 2, 3, 4)], frames=(1,))
  assert rewards.temperatures(calibrated) == {'a': 0.123456, 'b': 1.44}
  assert [t.weight for t in calibrated.terms] == [2.0, 1.0]
  assert rewards.temperatures(reward) == {'a': 0.123456}


def test_other_rewards_have_no_temperatures() -> None:
  assert rewards.temperatures(lambda o, g: rewards.RewardResult(1, {'a': 1})) == {}


_MODULE = """
from envs import distances
from envs import rewards

class Grasp:
  def __call__(self, observation, goal):
    return rewards.RewardResult(.5, {'grasp': .5})

DECLARED = rewards.Reward([
  rewards.Term('brick', distances.Euclidean('brick/position'), 1.0),
  rewards.Term('pinch', distances.Euclidean('pinch_position'), 1.0, temperature=.5),
])
CALLABLE = Grasp()
NUMBER = 3
"""


@pytest.fixture
def module(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
  """A function that makes an importable module and returns its name."""
  monkeypatch.syspath_prepend(tmp_path)

  def write(text: str) -> str:
    name = f'somebodys_{abs(hash((tmp_path, text)))}'
    (tmp_path / f'{name}.py').write_text(text)
    return name

  return write


def test_load_binds_a_declaration(module: Callable[[str], str]) -> None:
  reward = rewards.load(f'{module(_MODULE)}:DECLARED', LAYOUT)
  assert isinstance(reward, rewards.Reward)
  assert reward.layout is LAYOUT
  assert rewards.temperatures(reward) == {'pinch': 0.5}


def test_load_takes_up_calibrated_temperatures(module: Callable[[str], str]) -> None:
  name = f'{module(_MODULE)}:DECLARED'
  reward = rewards.load(name, LAYOUT, calibrated={'brick': 0.25})
  assert rewards.temperatures(reward) == {'brick': 0.25, 'pinch': 0.5}
  goal = observed.having(brick__position=[0.25, 0, 0])
  assert reward(observed.zeros(), goal).terms['brick'] == pytest.approx(math.exp(-1))


def test_load_takes_anything_that_can_be_called(module: Callable[[str], str]) -> None:
  reward = rewards.load(f'{module(_MODULE)}:CALLABLE', LAYOUT)
  assert reward(observed.zeros(), observed.zeros()) == (0.5, {'grasp': 0.5})
  assert rewards.check('it', reward, observed.zeros(8)) == ['grasp']


@pytest.mark.parametrize('name', ['', 'LIFT', 'a.b.LIFT', 'a:', ':LIFT'])
def test_load_refuses_names_of_another_form(name: str) -> None:
  message = f'^reward {name!r}: expected package.module:attribute$'
  with pytest.raises(ValueError, match=message):
    rewards.load(name, LAYOUT)


@pytest.mark.parametrize(
  'text, attribute, message',
  [
    (_MODULE, 'MISSING', r'cannot be imported: AttributeError: module .* no attribute'),
    ('import nosuchthing', 'X', r'cannot be imported: ModuleNotFoundError: No module'),
    ('def f(:', 'X', r'cannot be imported: SyntaxError: '),
    ('1 / 0', 'X', r'cannot be imported: ZeroDivisionError: division by zero$'),
    (
      _MODULE + 'rewards.Reward([])',
      'X',
      r'cannot be imported: ValueError: terms are \[\]; expected one or more',
    ),
    (_MODULE, 'NUMBER', r': expected a callable object, found 3$'),
    (_MODULE, 'Grasp', r": expected a callable object, found <class '.*Grasp'>$"),
  ],
)
def test_load_refuses(
  module: Callable[[str], str], text: str, attribute: str, message: str
) -> None:
  name = f'{module(text)}:{attribute}'
  with pytest.raises(ValueError, match=f"^reward '{name}'.*{message}"):
    rewards.load(name, LAYOUT)


def test_load_refuses_a_module_that_is_not_there() -> None:
  message = (
    r"^reward 'no\.such:X' cannot be imported: ModuleNotFoundError: No module named"
  )
  with pytest.raises(ValueError, match=message):
    rewards.load('no.such:X', LAYOUT)


def test_load_refuses_a_field_that_the_task_lacks(module: Callable[[str], str]) -> None:
  name = f'{module(_MODULE)}:DECLARED'
  with pytest.raises(ValueError, match="no field 'brick/position' in the observation"):
    rewards.load(name, observations.Layout(('duplo',)))


def _returns(value: Any) -> rewards.RewardFunction:
  return lambda observation, goal: value


def _result(total: Any, **terms: Any) -> rewards.RewardFunction:
  return _returns(rewards.RewardResult(total, terms))


def _raises(observation: Any, goal: Any) -> rewards.RewardResult:
  raise KeyError('camera')


@pytest.mark.parametrize(
  'reward, message',
  [
    (_raises, r"^reward 'mine' raised KeyError: 'camera', given groups .*'body', 'obj"),
    (_returns(0.5), r"^reward 'mine' returned 0\.5; expected a RewardResult$"),
    (_returns((0.5, {'a': 0.5})), r'returned \(0\.5, .*; expected a RewardResult$'),
    (_returns(rewards.RewardResult(1, cast(Any, [1]))), 'expected a RewardResult$'),
    (_result(0.5), r"^reward 'mine' returned no terms; expected at least one$"),
    (_result(1.5, a=1), r'total is 1\.5; expected a number in \[0, 1\]$'),
    (_result(1, a=1, b=-0.1), r'b is -0\.1; expected a number in \[0, 1\]$'),
    (_result(math.nan, a=1), r'total is nan; expected a number in \[0, 1\]$'),
    (_result(0, a=math.inf), r'a is inf; expected a number in \[0, 1\]$'),
    (_result(0, a='much'), r"a is 'much'; expected a number in \[0, 1\]$"),
    (_result(0, a=None), r'a is None; expected a number in \[0, 1\]$'),
    (_result(np.zeros(2), a=0), r'total is array\(\[0., 0.\]\); expected a number'),
  ],
)
def test_check_refuses(reward: rewards.RewardFunction, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    rewards.check('mine', reward, observed.zeros(8))


def test_check_names_the_terms() -> None:
  reward = _result(np.float32(1), b=np.float64(0), a=1)
  assert rewards.check('mine', reward, observed.zeros(8)) == ['b', 'a']
  message = r"^reward 'mine' raised ValueError: terms \['brick'\] have no temperature"
  with pytest.raises(ValueError, match=message):
    rewards.check('mine', rewards.Reward([_term()], LAYOUT), observed.zeros(8))


def test_check_calls_it_where_the_goal_is_met_and_where_it_is_not() -> None:
  met: list[bool] = []

  def reward(observation: Any, goal: Any) -> rewards.RewardResult:
    met.append(bool((observation['body'] == goal['body']).all()))
    return rewards.RewardResult(0.5, {'a': 0.5})

  rewards.check('mine', reward, observed.random(100))
  assert met.count(True) == 20
  assert met.count(False) == 41


def test_check_refuses_what_is_wrong_only_where_the_goal_is_met() -> None:
  def reward(observation: Any, goal: Any) -> rewards.RewardResult:
    distance = np.linalg.norm(observation['body'] - goal['body'])
    with np.errstate(all='ignore'):
      return rewards.RewardResult(0.5, {'a': float(distance / distance)})

  message = (
    r"^reward 'mine', at step 0 with the goal of step 0: a is .*nan.*; expected a "
    r'number in \[0, 1\]$'
  )
  with pytest.raises(ValueError, match=message):
    rewards.check('mine', reward, observed.random(100))


def test_check_refuses_terms_that_come_and_go() -> None:
  def reward(observation: Any, goal: Any) -> rewards.RewardResult:
    near = bool((observation['body'] == goal['body']).all())
    return rewards.RewardResult(1, {'a': 1} if near else {'a': 1, 'b': 1})

  message = r"its terms are \['a', 'b'\]; expected \['a'\], as before$"
  with pytest.raises(ValueError, match=message):
    rewards.check('mine', reward, observed.random(100))


class _Gated(rewards.Reward):
  """Somebody's declared reward that counts only if all its terms are good."""

  gate = 0.9

  def __call__(self, observation: Any, goal: Any) -> rewards.RewardResult:
    result = super().__call__(observation, goal)
    return (
      result if min(result.terms.values()) > self.gate else result._replace(total=0)
    )


def test_a_subclass_stays_what_it_is(
  module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
  gated = _Gated([_term()])
  gated.gate = 0.5
  name = module(_MODULE)
  monkeypatch.setattr(importlib.import_module(name), 'GATED', gated, raising=False)
  reward = rewards.load(f'{name}:GATED', LAYOUT)
  assert isinstance(reward, _Gated)
  frames = observed.random(10)
  reward = rewards.calibrate(reward, [frames])
  assert isinstance(reward, _Gated) and reward.gate == 0.5
  tau = rewards.temperatures(reward)['brick']
  goal = observed.having(brick__position=[tau, 0, 0])
  total, terms = reward(observed.zeros(), goal)
  assert total == 0 and terms['brick'] == pytest.approx(math.exp(-1))
  assert reward(goal, goal).total == 1


def test_calibration_refuses_a_distance_that_takes_no_batches() -> None:
  reward = rewards.Reward([rewards.Term('all', _Whole(), 1.0)], LAYOUT)
  message = (
    r"^term 'all': its distance returned shape \(\) for 8 observations; expected one "
    r'number for each$'
  )
  with pytest.raises(ValueError, match=message):
    rewards.calibrate(reward, [observed.random(10)])


class _Raising:
  """A user's distance: for one observation, or for none."""

  def __init__(self, at_once: bool) -> None:
    self._at_once = at_once

  def bind(self, layout: observations.Layout) -> distances.DistanceFunction:
    if self._at_once:
      raise KeyError('hand')
    return lambda o, g: math.dist(o['body'], g['body'])  # type: ignore[return-value]


def test_what_a_users_distance_raises_is_told_with_its_term() -> None:
  term = rewards.Term('near', _Raising(at_once=False), 1.0)
  with pytest.raises(ValueError) as e:
    rewards.calibrate(rewards.Reward([term], LAYOUT), [observed.random(10)])
  assert str(e.value).startswith("term 'near': its distance raised TypeError: ")
  assert str(e.value).endswith(
    ', called on 8 observations at once, as calibration does for terms without a '
    'temperature'
  )
  # With a temperature it need not take more than one.
  warm = rewards.Reward([dataclasses.replace(term, temperature=1.0)], LAYOUT)
  assert rewards.temperatures(rewards.calibrate(warm, [observed.random(10)])) == {
    'near': 1.0
  }
  with pytest.raises(ValueError) as e:
    rewards.Reward([rewards.Term('near', _Raising(at_once=True), 1.0)], LAYOUT)
  assert str(e.value) == (
    "term 'near': its distance cannot be bound to the observation: KeyError: 'hand'"
  )


class _Whole:
  """A distance that forgets to name an axis."""

  def bind(self, layout: observations.Layout) -> distances.DistanceFunction:
    return lambda o, g: np.linalg.norm(o['body'] - g['body'])  # type: ignore[return-value]


def test_a_computed_reward_gets_the_groups_of_the_layout_alone(
  module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
  given: list[set[str]] = []

  def reward(observation: Any, goal: Any) -> rewards.RewardResult:
    given.extend([set(observation), set(goal)])
    return rewards.RewardResult(0.5, {'a': 0.5})

  name = module(_MODULE)
  monkeypatch.setattr(importlib.import_module(name), 'SEEING', reward, raising=False)
  pictures = pictures_lib.Pictures(('front',), 64, 64)
  seeing = rewards.load(f'{name}:SEEING', observations.Layout((), pictures))
  pixels = {'pixels/front': np.zeros((8, 64, 64, 3), np.uint8)}
  frames = {**observed.zeros(8), **pixels}
  assert rewards.check('it', seeing, frames) == ['a']
  assert set(map(frozenset, given)) == {frozenset({'body', 'pixels/front'})}


def test_a_declaration_says_all_but_temperatures() -> None:
  terms = [_term(), rewards.Term('all', _Whole(), 3, temperature=2.0)]
  said = rewards.declaration(rewards.Reward(terms, LAYOUT))
  assert list(said) == ['brick', 'all']
  assert said['brick'].startswith("Euclidean(field='brick/position'), weight ")
  assert said['all'].endswith('_Whole object>, weight 3.0')
  assert rewards.declaration(
    rewards.calibrate(rewards.Reward(terms[:1], LAYOUT), [observed.random(10)])
  ) == {'brick': said['brick']}
  assert rewards.declaration(_result(1, a=1)) == {}


def test_every_task_has_a_reward_over_its_body_and_objects() -> None:
  assert set(reward_library.DEFAULTS) == set(tasks.TASKS)
  for task, name in reward_library.DEFAULTS.items():
    layout = observations.Layout(tasks.get(task).objects)
    declared = rewards.load(name, layout)
    assert isinstance(declared, rewards.Reward)
    assert sum(t.weight for t in declared.terms) == pytest.approx(1)
    fields = {getattr(t.distance, 'field', 'arm') for t in declared.terms}
    assert {'arm', *(f'{o}/position' for o in layout.objects)} <= fields
    taus = {t.name: 0.1 for t in declared.terms}
    reward = rewards.load(name, layout, taus)
    start = observed.zeros(layout=layout)
    frames = observed.zeros(8, layout=layout)
    assert rewards.check(name, reward, frames) == [t.name for t in declared.terms]
    assert reward(start, start).total == pytest.approx(1)
