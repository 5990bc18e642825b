"""Tests of agents.evaluator, with stand-ins for rollouts and parameters."""

import csv
import pathlib
import threading
import types
from typing import Any

import pytest

from agents import evaluator
from agents import parameters
from metamimic import config as config_lib
from metamimic import evaluation

Progress = parameters.Progress


class _Reader:
  """Says how far the learner is; its last word is said for ever."""

  def __init__(self, said: list[Progress]) -> None:
    self._said = said
    self.progress = Progress(0, False)

  def wait(self, should_stop: object) -> bool:
    self.progress = self._said[0]
    return True

  def wait_for_learning(self, should_stop: object) -> None:
    pass

  def update(self) -> Progress:
    self.progress = self._said.pop(0) if len(self._said) > 1 else self._said[0]
    return self.progress


class _Setting:
  """An evaluator of demonstrations 0 to 4 for training and 5 to 9 held out.

  The reward of following one is a hundredth of its number.
  """

  def __init__(
    self,
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[Progress],
    stop_after: int | None = None,
    final_episodes: int = 4,
    task_said: list[Progress] | None = None,
    novel: int = 0,
  ) -> None:
    self.path, self.stop = path, threading.Event()
    self.rows: list[dict[str, Any]] = []
    self.finished = 0
    self._measured = 0
    self._stop_after = stop_after
    monkeypatch.setattr(evaluator.logs.Clock, 'due', lambda self, period: 1.0)
    monkeypatch.setattr(self.stop, 'wait', lambda seconds: None)
    ids = {'train': range(5), 'valid': range(5, 10), 'novel': range(10, 10 + novel)}
    demonstrations: Any = types.SimpleNamespace(
      demonstrations=[
        types.SimpleNamespace(name=f'demo_{i}', skill='lift') for i in range(10 + novel)
      ],
      ids=lambda split: tuple(ids[split]),
    )
    reader: Any = _Reader(said)
    learned = [
      evaluator.Learned(
        'metamimic', reader, self._follow, {'wrong_demonstration': self._follow_wrong}
      )
    ]
    if task_said is not None:
      reader = _Reader(task_said)
      learned.append(evaluator.Learned('task_policy', reader, self._solve))
    logger: Any = types.SimpleNamespace(write=self.rows.append)
    self.evaluator = evaluator.Evaluator(
      demonstrations,
      learned,
      {'zero': self._follow},
      ['arm'],
      logger,
      config=config_lib.Config(
        seed=3,
        evaluation=config_lib.EvaluationConfig(
          episodes=2, final_episodes=final_episodes
        ),
      ),
      run_dir=str(path),
      finish=self._finish,
      stop=self.stop,
    )

  def _follow(self, indices: Any, should_stop: Any) -> list[evaluation.Episode]:
    return [self._episode(i, i) for i in self._begun(indices)]

  def _follow_wrong(self, indices: Any, should_stop: Any) -> list[evaluation.Episode]:
    return [self._episode(i, 9) for i in self._begun(indices)]

  def _solve(self, indices: Any, should_stop: Any) -> list[evaluation.Episode]:
    """As an arm that follows no demonstration."""
    nan = float('nan')
    return [
      evaluation.Episode(i, 8, nan, True, 8, {}, nan) for i in self._begun(indices)
    ]

  def _begun(self, indices: Any) -> Any:
    self._measured += 1
    if self._measured == self._stop_after:
      self.stop.set()
    return indices

  def _episode(self, i: int, shown: int) -> evaluation.Episode:
    reward = shown / 100
    return evaluation.Episode(i, 10, 0.5, True, 7, {'arm': reward}, reward)

  def _finish(self) -> None:
    self.finished += 1

  def csv(self) -> list[dict[str, str]]:
    """Returns the rows of evaluation.csv."""
    with open(self.path / 'evaluation.csv', newline='') as f:
      return list(csv.DictReader(f))

  def groups(self) -> list[tuple[int, str, str, int]]:
    """Returns step, arm, split and number of episodes of what was measured."""
    return [
      (row['learner_steps'], row['arm'], row['split'], row['episodes'])
      for row in self.rows
    ]


CONTROLS = [(0, 'zero', 'valid', 4), (0, 'zero', 'train', 2)]
FINAL = [
  (20, 'metamimic', 'valid', 4),
  (20, 'metamimic', 'train', 4),
  (20, 'wrong_demonstration', 'valid', 4),
]


def _policy(
  steps: int, arm: str = 'metamimic', episodes: int = 2
) -> list[tuple[int, str, str, int]]:
  return [(steps, arm, split, episodes) for split in ('valid', 'train')]


def test_controls_then_the_policy_as_it_learns_then_everything(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  # The learner has not moved between two looks: that policy is measured once.
  said = [Progress(0, False)] * 3 + [Progress(10, False)] * 2 + [Progress(20, True)]
  setting = _Setting(tmp_path, monkeypatch, said)
  setting.evaluator.run()
  assert setting.groups() == CONTROLS + _policy(0) + _policy(10) + FINAL
  assert setting.finished == 1
  rows = setting.csv()
  assert len(rows) == sum(group[-1] for group in setting.groups())
  last = [row for row in rows if row['learner_steps'] == '20']
  assert [(r['demonstration'], r['split'], r['total']) for r in last[:4]] == [
    (f'demo_{i}', 'valid', f'0.0{i}') for i in range(5, 9)
  ]
  # Under the arm's own name, for the demonstrations that were followed.
  assert [(r['arm'], r['demonstration'], r['total']) for r in last[-4:]] == [
    ('wrong_demonstration', f'demo_{i}', '0.09') for i in range(5, 9)
  ]
  assert {row['seed'] for row in rows} == {'3'}
  summary = setting.rows[-3]
  assert summary['reward'] == pytest.approx(0.065)
  assert (summary['completed'], summary['success']) == (0.5, 1.0)


def test_two_policies_are_each_measured_as_they_learn_until_both_have(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  # While the second still learns, the first is done and not measured again.
  setting = _Setting(
    tmp_path,
    monkeypatch,
    [Progress(0, False), Progress(20, True)],
    task_said=[Progress(step, False) for step in (0, 5, 5, 7)] + [Progress(9, True)],
  )
  setting.evaluator.run()
  assert setting.groups() == [
    *CONTROLS,
    *_policy(0),
    *_policy(0, 'task_policy'),
    *_policy(20),
    *_policy(5, 'task_policy'),
    *_policy(7, 'task_policy'),
    *FINAL,
    *_policy(9, 'task_policy', 4),
  ]
  assert setting.finished == 1


def test_a_policy_that_follows_nothing_has_no_reward_but_the_steps_it_took(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  done = [Progress(20, True)]
  setting = _Setting(tmp_path, monkeypatch, done, task_said=done)
  setting.evaluator.run()
  rows = [row for row in setting.csv() if row['arm'] == 'task_policy']
  assert len(rows) == 8
  for row in rows:
    assert (row['reward/arm'], row['total'], row['completed']) == ('nan',) * 3
    assert (row['success'], row['solved'], row['steps']) == ('1', '8', '8')


def test_novel_skills_are_measured_apart(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  said = [Progress(0, False)] * 2 + [Progress(20, True)]
  setting = _Setting(tmp_path, monkeypatch, said, novel=3)
  setting.evaluator.run()
  splits = ('valid', 'novel', 'train')
  assert setting.groups() == [
    *[(0, 'zero', s, n) for s, n in zip(splits, (4, 3, 2), strict=True)],
    *[(0, 'metamimic', s, 2) for s in splits],
    *[(20, 'metamimic', s, n) for s, n in zip(splits, (4, 3, 4), strict=True)],
    (20, 'wrong_demonstration', 'valid', 4),
  ]
  assert {row['skill'] for row in setting.csv()} == {'lift'}


def test_measuring_takes_a_tenth_of_the_time_at_most(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  said = [Progress(step, False) for step in (0, 0, 5, 7)] + [Progress(20, True)]
  setting = _Setting(tmp_path, monkeypatch, said)
  now, asked = iter(range(0, 10_000, 3)), []

  def due(self: object, period: float) -> float:
    asked.append(period)
    return 1.0

  monkeypatch.setattr(evaluator.logs.Clock, 'due', due)
  monkeypatch.setattr(evaluator.time, 'monotonic', lambda: next(now))
  setting.evaluator.run()
  # Of three seconds between looks at the clock, an evaluation of two splits has five.
  assert asked == [0, 150, 150]


def test_resumed_run_measures_only_the_controls_that_are_missing(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  stopped = _Setting(tmp_path, monkeypatch, [Progress(0, False)], stop_after=2)
  stopped.evaluator.run()
  assert stopped.groups() == CONTROLS[:1]
  assert stopped.finished == 0
  resumed = _Setting(tmp_path, monkeypatch, [Progress(20, True)])
  resumed.evaluator.run()
  assert resumed.groups() == CONTROLS[1:] + FINAL
  assert resumed.finished == 1


def test_run_resumed_with_more_episodes_measures_the_controls_that_are_missing(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  _Setting(tmp_path, monkeypatch, [Progress(20, True)]).evaluator.run()
  resumed = _Setting(tmp_path, monkeypatch, [Progress(20, True)], final_episodes=5)
  resumed.evaluator.run()
  assert resumed.groups()[0] == (0, 'zero', 'valid', 1)
  followed = [r['demonstration'] for r in resumed.csv() if r['arm'] == 'zero']
  assert followed == [f'demo_{i}' for i in (5, 6, 7, 8, 0, 1, 9)]


def test_stop_during_the_last_evaluation_is_no_end(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  setting = _Setting(tmp_path, monkeypatch, [Progress(20, True)], stop_after=5)
  setting.evaluator.run()
  assert setting.groups() == CONTROLS + FINAL[:2]
  assert setting.finished == 0
