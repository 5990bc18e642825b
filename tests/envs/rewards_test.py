"""Tests of envs.rewards and of the declarations in envs.reward_library."""

from collections.abc import Callable
import math
import pathlib
from typing import Any, cast

import numpy as np
import pytest
from scipy.spatial import transform

from envs import observations
from envs import reward_library
from envs import rewards
from envs import tasks

LAYOUT = observations.Layout(('brick',))
Observation = dict[str, np.ndarray]


def _zeros(*shape: int, layout: observations.Layout = LAYOUT) -> Observation:
  """Returns (a batch of) observations at rest: all angles 0, no rotation."""
  observation = {
    group: np.zeros((*shape, size), np.float32) for group, size in layout.sizes.items()
  }
  layout.get(observation, 'arm_cos')[...] = 1
  for name in layout.objects:
    layout.get(observation, f'{name}/orientation')[..., 0] = 1
  return observation


def _with(**values: Any) -> Observation:
  """Returns an observation with some fields set; `__` in a name stands for `/`."""
  observation = _zeros()
  for name, value in values.items():
    LAYOUT.get(observation, name.replace('__', '/'))[:] = value
  return observation


def _random(*shape: int, layout: observations.Layout = LAYOUT) -> Observation:
  rng = np.random.default_rng(len(shape))
  observation = {
    group: rng.standard_normal((*shape, size)).astype(np.float32)
    for group, size in layout.sizes.items()
  }
  angles = rng.uniform(-math.pi, math.pi, (*shape, 6))
  layout.get(observation, 'arm_cos')[...] = np.cos(angles)
  layout.get(observation, 'arm_sin')[...] = np.sin(angles)
  for name in layout.objects:
    quaternion = layout.get(observation, f'{name}/orientation')
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
  return observation


def _distance(distance: rewards.Distance, a: Observation, b: Observation) -> float:
  function = distance.bind(LAYOUT)
  there, back = float(function(a, b)), float(function(b, a))
  assert there == pytest.approx(back, abs=1e-7)
  return there


def _term(name: str = 'brick', weight: float = 1.0, **settings: Any) -> rewards.Term:
  return rewards.Term(name, rewards.Euclidean('brick/position'), weight, **settings)


def test_euclidean_is_the_length_of_the_difference() -> None:
  distance = rewards.Euclidean('brick/position')
  a, b = _with(brick__position=[1, 2, 3]), _with(brick__position=[4, 6, 15])
  assert _distance(distance, a, b) == 13.0
  assert _distance(distance, a, a) == 0.0


@pytest.mark.parametrize(
  'here, there, expected',
  [
    ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 0.0),
    ([0.3, 0, 0, 0, 0, 0], [0, 0.4, 0, 0, 0, 0], 0.5),
    ([3.1, 0, 0, 0, 0, 0], [-3.1, 0, 0, 0, 0, 0], 2 * math.pi - 6.2),
    ([0, 0, 1, 0, 0, 0], [0, 0, 1 + 4 * math.pi, 0, 0, 0], 0.0),
    ([0, 0, 0, 0, 0, 1.5], [0, 0, 0, 0, 0, -1.5], 3.0),
    ([0.1] * 6, [0.3] * 6, 0.2 * math.sqrt(6)),
  ],
)
def test_angles_turn_the_short_way(
  here: list[float], there: list[float], expected: float
) -> None:
  a, b = (_with(arm_cos=np.cos(q), arm_sin=np.sin(q)) for q in (here, there))
  distance = rewards.Angles('arm_cos', 'arm_sin')
  assert _distance(distance, a, b) == pytest.approx(expected, abs=1e-6)


def _turn(angle: float, axis: tuple[float, float, float]) -> list[float]:
  return [math.cos(angle / 2), *(math.sin(angle / 2) * np.array(axis))]


@pytest.mark.parametrize('angle', [0.0, 0.001, 0.1, 1.0, math.pi / 2, 3.0, math.pi])
def test_rotation_is_the_angle_between(angle: float) -> None:
  a = _with(brick__orientation=_turn(0.3, (0, 0.6, 0.8)))
  b = _with(brick__orientation=_turn(0.3 + angle, (0, 0.6, 0.8)))
  minus_b = _with(brick__orientation=-LAYOUT.get(b, 'brick/orientation'))
  distance = rewards.Rotation('brick/orientation')
  assert _distance(distance, a, b) == pytest.approx(angle, abs=2e-6)
  assert _distance(distance, a, minus_b) == pytest.approx(angle, abs=2e-6)


def test_between_is_how_much_an_offset_differs() -> None:
  reach = rewards.Between('pinch_position', 'brick/position')
  here = _with(pinch_position=[0.1, 0.2, 0.3], brick__position=[0.1, 0.2, 0.0])
  moved = _with(pinch_position=[-0.5, 0.1, 0.4], brick__position=[-0.5, 0.1, 0.1])
  assert _distance(reach, here, moved) == pytest.approx(0, abs=1e-6)
  other = _with(pinch_position=[0.1, 0.2, 0.3], brick__position=[0.13, 0.24, 0.0])
  assert _distance(reach, here, other) == pytest.approx(0.05, abs=1e-6)


def _matrix(
  yaw: float, tilt: float = 0.0, axis: tuple[float, float, float] = (1, 0, 0)
) -> np.ndarray:
  """Returns the first two rows of: tilted about an axis of its own, then turned."""
  turns = transform.Rotation.from_euler('z', yaw)
  tilts = transform.Rotation.from_rotvec(tilt * np.array(axis))
  return (turns * tilts).as_matrix()[:2].ravel()


@pytest.mark.parametrize(
  ('hand', 'brick', 'expected'),
  [
    ((0.0, 0.3), (0.0, 0.3), 0.0),
    ((0.0, 0.3), (0.2, 0.5), 0.0),  # Both are turned.
    ((0.0, 0.3), (0.0, 0.1), 0.2),
    ((0.3, 0.3), (0.0, 0.3), 0.3),
    ((0.0, 3.0), (0.0, -3.0), 2 * math.pi - 6),  # The short way round.
  ],
)
def test_heading_between_is_how_much_they_are_turned_to_each_other(
  hand: tuple[float, float], brick: tuple[float, float], expected: float
) -> None:
  # Each of hand and brick, here and there; the pair is (hand, brick).
  (hand_here, brick_here), (hand_there, brick_there) = hand, brick
  here = _with(
    pinch_rotation=_matrix(hand_here), brick__orientation=_turn(brick_here, (0, 0, 1))
  )
  there = _with(
    pinch_rotation=_matrix(hand_there), brick__orientation=_turn(brick_there, (0, 0, 1))
  )
  turn = rewards.HeadingBetween('pinch_rotation', 'brick/orientation')
  assert _distance(turn, here, there) == pytest.approx(expected, abs=1e-5)


def test_tilt_does_not_see_a_turn_about_the_vertical() -> None:
  tilt = rewards.Tilt('pinch_rotation')
  upright = _with(pinch_rotation=_matrix(0.0))
  assert _distance(tilt, upright, _with(pinch_rotation=_matrix(2.0))) == pytest.approx(
    0, abs=1e-6
  )
  for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
    tilted = _with(pinch_rotation=_matrix(-1.0, 0.1, axis))
    # The chord: one axis sinks by sin(.1), another's height falls by 1 - cos(.1).
    assert _distance(tilt, upright, tilted) == pytest.approx(2 * math.sin(0.05))


def test_height_does_not_see_what_it_is_above() -> None:
  height = rewards.Height('brick/position')
  here = _with(brick__position=[0.1, -0.2, 0.30])
  assert _distance(height, here, _with(brick__position=[0.5, 0.9, 0.30])) == 0
  for there in (0.05, 0.55):
    found = _distance(height, here, _with(brick__position=[0.1, -0.2, there]))
    assert found == pytest.approx(0.25)


def test_lifting_is_rewarded_wherever_it_is_done() -> None:
  layout = tasks.load('lift_brick', 0).layout
  reward = rewards.load(
    reward_library.RELATIVE['lift_brick'],
    layout,
    {'fingers': 0.1, 'reach': 0.015, 'lift': 0.02},
  )
  here = _zeros(layout=layout)
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
  here = _zeros(layout=layout)
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
    result = reward(_zeros(), _with(brick__position=[0, distance, 0]))
    assert isinstance(result, rewards.RewardResult)
    assert result.total == pytest.approx(expected, abs=1e-8)
    assert result.terms == {'brick': pytest.approx(expected, abs=1e-8)}


def test_the_total_is_the_weighted_mean_of_the_terms() -> None:
  reward = rewards.Reward(
    [
      _term(weight=3.0, temperature=1.0),
      rewards.Term('pinch', rewards.Euclidean('pinch_position'), 1.0, temperature=2.0),
    ],
    LAYOUT,
  )
  goal = _with(brick__position=[math.log(2), 0, 0], pinch_position=[math.log(16), 0, 0])
  total, terms = reward(_zeros(), goal)
  assert list(terms) == ['brick', 'pinch']
  assert terms == {'brick': pytest.approx(0.5), 'pinch': pytest.approx(0.25)}
  assert total == pytest.approx(0.75 * 0.5 + 0.25 * 0.25)
  assert reward(goal, goal) == (1.0, {'brick': 1.0, 'pinch': 1.0})


_KINDS: dict[str, rewards.Distance] = {
  'arm': rewards.Angles('arm_cos', 'arm_sin'),
  'fingers': rewards.Euclidean('fingers'),
  'brick': rewards.Euclidean('brick/position'),
  'turn': rewards.Rotation('brick/orientation'),
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


def _slow_distances(a: Observation, b: Observation) -> dict[str, float]:
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


def _row(batch: Observation, i: int) -> Observation:
  return {group: values[i] for group, values in batch.items()}


def test_reward_agrees_with_a_slow_reference() -> None:
  here, there = _random(50), _random(50)
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
  here, there = _random(3, 4), _random(4)
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
    rewards.Euclidean('cube/position'),
    rewards.Angles('cube/position', 'arm_sin'),
    rewards.Angles('arm_cos', 'cube/position'),
    rewards.Rotation('cube/position'),
    rewards.Between('cube/position', 'pinch_position'),
    rewards.Between('pinch_position', 'cube/position'),
    rewards.HeadingBetween('cube/position', 'brick/orientation'),
    rewards.HeadingBetween('brick/orientation', 'cube/position'),
    rewards.Tilt('cube/position'),
    rewards.Height('cube/position'),
  ],
)
def test_unknown_fields_are_refused_when_bound(distance: rewards.Distance) -> None:
  reward = rewards.Reward([rewards.Term('x', distance, 1.0)])
  message = r"^no field 'cube/position' in the observation; there are \['arm_cos', "
  with pytest.raises(ValueError, match=message):
    reward.bind(LAYOUT)


def test_a_declaration_must_be_bound_before_it_is_called() -> None:
  reward = rewards.Reward([_term(temperature=1.0)])
  message = r'^this reward is a declaration; bind\(layout\) it before calling$'
  with pytest.raises(ValueError, match=message):
    reward(_zeros(), _zeros())
  assert reward.bind(LAYOUT)(_zeros(), _zeros()).total == 1


def test_terms_need_temperatures_before_it_is_called() -> None:
  reward = rewards.Reward([_term('a'), _term('b', temperature=1.0)], LAYOUT)
  message = r"^terms \['a'\] have no temperature; calibrate the reward$"
  with pytest.raises(ValueError, match=message):
    reward(_zeros(), _zeros())


def _ramp(*positions: float) -> Observation:
  """Returns a sequence in which the brick moves along x."""
  observation = _zeros(len(positions))
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
from envs import rewards

class Grasp:
  def __call__(self, observation, goal):
    return rewards.RewardResult(.5, {'grasp': .5})

DECLARED = rewards.Reward([
  rewards.Term('brick', rewards.Euclidean('brick/position'), 1.0),
  rewards.Term('pinch', rewards.Euclidean('pinch_position'), 1.0, temperature=.5),
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
  goal = _with(brick__position=[0.25, 0, 0])
  assert reward(_zeros(), goal).terms['brick'] == pytest.approx(math.exp(-1))


def test_load_takes_anything_that_can_be_called(module: Callable[[str], str]) -> None:
  reward = rewards.load(f'{module(_MODULE)}:CALLABLE', LAYOUT)
  assert reward(_zeros(), _zeros()) == (0.5, {'grasp': 0.5})
  assert rewards.check('it', reward, _zeros(), _zeros()) == ['grasp']


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
    (_raises, r"^reward 'mine' raised KeyError: 'camera'$"),
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
    rewards.check('mine', reward, _zeros(), _zeros())


def test_check_names_the_terms() -> None:
  reward = _result(np.float32(1), b=np.float64(0), a=1)
  assert rewards.check('mine', reward, _zeros(), _zeros()) == ['b', 'a']
  message = r"^reward 'mine' raised ValueError: terms \['brick'\] have no temperature"
  with pytest.raises(ValueError, match=message):
    rewards.check('mine', rewards.Reward([_term()], LAYOUT), _zeros(), _zeros())


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
    start = _zeros(layout=layout)
    assert rewards.check(name, reward, start, start) == [t.name for t in declared.terms]
    assert reward(start, start).total == pytest.approx(1)
