"""Tests of agents.evaluator, with stand-ins for rollouts and parameters."""

import csv
import pathlib
import threading
import types
from typing import Any

import numpy as np
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
    return True

  def update(self) -> Progress:
    self.progress = self._said.pop(0) if len(self._said) > 1 else self._said[0]
    return self.progress


class _Setting:
  """An evaluator of demonstrations 0 to 4 for training and 5 to 9 held out."""

  def __init__(
    self,
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[Progress],
    stop_after: int | None = None,
    final_episodes: int = 4,
  ) -> None:
    self.path, self.stop = path, threading.Event()
    self.rows: list[dict[str, Any]] = []
    self.finished = 0
    self._measured = 0
    self._stop_after = stop_after
    monkeypatch.setattr(evaluation, 'run', self._run)
    monkeypatch.setattr(evaluator.logs.Clock, 'due', lambda self: 1.0)
    monkeypatch.setattr(self.stop, 'wait', lambda seconds: None)
    demonstrations: Any = types.SimpleNamespace(
      demonstrations=[types.SimpleNamespace(name=f'demo_{i}') for i in range(10)],
      train=tuple(range(5)),
      valid=tuple(range(5, 10)),
    )
    reader: Any = _Reader(said)
    logger: Any = types.SimpleNamespace(write=self.rows.append)
    self.evaluator = evaluator.Evaluator(
      [],
      demonstrations,
      self._act,
      {'zero': evaluation.zero},
      reader,
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

  def _act(self, batch: Any) -> np.ndarray:
    """Returns which demonstration it is shown."""
    return batch['goal'][:, 0]

  def _run(
    self, environments: Any, indices: Any, controller: Any, should_stop: Any
  ) -> list[evaluation.Episode]:
    """As if the reward were a hundredth of what the controller says."""
    self._measured += 1
    if self._measured == self._stop_after:
      self.stop.set()
    goal = np.array([[i, 0] for i in indices], np.int32)
    shown = np.broadcast_to(
      np.ravel(controller({'goal': goal}, indices))[: len(indices)], len(indices)
    )
    return [
      evaluation.Episode(int(i), 10, 0.5, True, {'arm': float(s) / 100}, float(s) / 100)
      for i, s in zip(indices, shown, strict=True)
    ]

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


def _policy(steps: int) -> list[tuple[int, str, str, int]]:
  return [(steps, 'metamimic', 'valid', 2), (steps, 'metamimic', 'train', 2)]


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
  # Shown the one before, rewarded for its own.
  assert [(r['demonstration'], r['total']) for r in last[-4:]] == [
    ('demo_5', '0.08'),
    ('demo_6', '0.05'),
    ('demo_7', '0.06'),
    ('demo_8', '0.07'),
  ]
  assert {row['seed'] for row in rows} == {'3'}
  summary = setting.rows[-3]
  assert summary['reward'] == pytest.approx(0.065)
  assert (summary['completed'], summary['success']) == (0.5, 1.0)


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
