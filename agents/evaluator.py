"""The evaluator: measures while training, and writes the run's results at its end."""

from collections.abc import Callable, Mapping, Sequence
import os
import threading
import time

from absl import logging
import acme
from acme.utils import loggers
import numpy as np

from agents import logs
from agents import parameters
from envs import imitation
from metamimic import config as config_lib
from metamimic import evaluation
from metamimic.demonstrations import types

TRAIN, VALID = 'train', 'valid'


class Evaluator(acme.Worker):
  """Follows the learner with rollouts on training and held-out demonstrations."""

  def __init__(
    self,
    environments: Sequence[imitation.ImitationEnvironment],
    demonstrations: types.DemonstrationSet,
    act: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    controls: Mapping[str, evaluation.Controller],
    reader: parameters.Reader,
    logger: loggers.Logger,
    config: config_lib.Config,
    run_dir: str,
    finish: Callable[[], None],
    stop: threading.Event,
  ):
    """Takes its parts.

    Args:
      environments: where to evaluate.
      demonstrations: both splits.
      act: the policy: batched observations -> actions.
      controls: arms beside the policy that do not change as it learns, by name.
      reader: keeps the policy up to date.
      logger: of summaries.
      config: how often and how much.
      run_dir: where `evaluation.csv` is.
      finish: called after the final evaluation, to draw videos and write the report.
      stop: ends `run`.
    """
    self._environments = environments
    self._demonstrations = demonstrations
    self._act = act
    self._controls = controls
    self._reader = reader
    self._logger = logger
    self._config = config
    self._path = os.path.join(run_dir, 'evaluation.csv')
    self._finish = finish
    self._stop = stop
    self._splits = {TRAIN: demonstrations.train, VALID: demonstrations.valid}

  def run(self) -> None:
    """Evaluates now and then until the learner has finished, then once more, fully."""
    if not self._reader.wait(self._stop.is_set):
      return
    settings = self._config.evaluation
    self._evaluate_controls()
    clock = logs.Clock(settings.period, at_once=True)
    evaluated = None
    while not self._stop.is_set():
      progress = self._reader.update()
      if progress.finished:
        break
      # The same policy again would say nothing new.
      if progress.learner_steps != evaluated and clock.due():
        evaluated = progress.learner_steps
        self._evaluate_policy(settings.episodes)
      self._stop.wait(0.5)
    if self._stop.is_set():
      return
    self._evaluate_policy(settings.final_episodes, wrong=True)
    if not self._stop.is_set():
      self._finish()

  def _evaluate_controls(self) -> None:
    settings = self._config.evaluation
    # A resumed run has them, or those that were measured before it was stopped; or it
    # shall now follow more of them.
    done = evaluation.measured(self._path)
    for arm, controller in self._controls.items():
      for split, episodes in (
        (VALID, settings.final_episodes),
        (TRAIN, settings.episodes),
      ):
        missing = [
          i
          for i in self._splits[split][:episodes]
          if (arm, split, self._demonstrations.demonstrations[i].name) not in done
        ]
        if missing:
          self._measure(arm, split, missing, controller)

  def _evaluate_policy(self, episodes: int, wrong: bool = False) -> None:
    controller = evaluation.follow(self._act)
    for split in (VALID, TRAIN):
      followed = self._splits[split][:episodes]
      self._measure(self._config.algorithm, split, followed, controller)
    followed = self._splits[VALID][:episodes]
    if wrong and len(followed) > 1:
      shown = evaluation.shuffled(followed)
      controller = evaluation.follow_wrong(self._act, shown)
      self._measure('wrong_demonstration', VALID, followed, controller)

  def _measure(
    self,
    arm: str,
    split: str,
    followed: Sequence[int],
    controller: evaluation.Controller,
  ) -> None:
    begun = time.monotonic()
    steps = self._reader.progress.learner_steps
    results = evaluation.run(
      self._environments, followed, controller, self._stop.is_set
    )
    if not results or self._stop.is_set():
      return
    rows = evaluation.rows(
      results,
      seed=self._config.seed,
      learner_steps=steps,
      arm=arm,
      split=split,
      demonstrations=self._demonstrations.demonstrations,
    )
    evaluation.append_rows(self._path, rows)
    row = {
      'learner_steps': steps,
      'arm': arm,
      'split': split,
      'episodes': len(results),
      'reward': float(np.mean([e.total for e in results])),
      'completed': float(np.mean([e.completed for e in results])),
      'success': float(np.mean([e.success for e in results])),
    }
    self._logger.write(row)
    logging.info('%s in %.1f s', row, time.monotonic() - begun)
