"""Tests of metamimic.run_figures: what is drawn, not how it looks."""

from matplotlib import lines
from matplotlib import text
import numpy as np
import pandas as pd

from metamimic import plotting
from metamimic import run_figures
from metamimic import statistics


def _evaluator() -> pd.DataFrame:
  return pd.DataFrame(
    [
      (0, 'replay', 'valid', 0.9, 1.0),
      (0, 'zero', 'valid', 0.3, 0.0),
      (0, 'metamimic', 'valid', 0.3, 0.0),
      (0, 'metamimic', 'train', 0.3, 0.1),
      (100, 'metamimic', 'valid', 0.5, 0.4),
      (100, 'metamimic', 'train', 0.6, 0.5),
    ],
    columns=['learner_steps', 'arm', 'split', 'reward', 'success'],
  )


def _evaluation() -> pd.DataFrame:
  rows = [
    (0, 'replay', 1, 0.8, 1.0, 0.95),
    (0, 'replay', 1, 1.0, 1.0, 0.99),
    (100, 'metamimic', 1, 0.4, 0.6, 0.5),
    (200, 'metamimic', 1, 0.7, 0.9, 0.8),
    (200, 'metamimic', 0, 0.5, 0.7, 0.6),
  ]
  columns = 'learner_steps arm success reward/arm reward/object total'.split()
  return pd.DataFrame(rows, columns=columns).assign(
    seed=0,
    demonstration=[f'demo_{i}' for i in range(len(rows))],
    split='valid',
    steps=10,
    completed=1.0,
  )


def _data(line: lines.Line2D, axis: str) -> list[float]:
  return np.asarray(line.get_xdata() if axis == 'x' else line.get_ydata()).tolist()


def test_learning_curve_draws_both_splits_ceiling_and_floor() -> None:
  figure = run_figures.learning_curve('metamimic', _evaluator(), pd.DataFrame())
  reward, success = figure.axes
  held_out, trained_on = success.lines
  assert held_out.get_label() == 'held-out'
  assert (_data(held_out, 'x'), _data(held_out, 'y')) == ([0, 100], [0, 0.4])
  assert trained_on.get_label() == 'training'
  assert (_data(trained_on, 'x'), _data(trained_on, 'y')) == ([0, 100], [0.1, 0.5])
  assert [text.get_text() for text in reward.texts] == [
    'ceiling: open-loop replay (0.90)',
    'floor: no action (0.30)',
  ]
  assert [_data(line, 'y')[0] for line in reward.lines[2:]] == [0.9, 0.3]


def test_learning_curve_ends_with_the_final_evaluation() -> None:
  figure = run_figures.learning_curve('metamimic', _evaluator(), _evaluation())
  reward = figure.axes[0]
  held_out = np.asarray(reward.lines[0].get_xydata())
  np.testing.assert_allclose(held_out, [[0, 0.3], [100, 0.5], [200, 0.7]])
  assert reward.texts[0].get_text() == 'ceiling: open-loop replay (0.97)'


def _task_policy() -> pd.DataFrame:
  """Returns evaluations of a policy that has no reward, beside those of another."""
  rows = [(0, 0.0, 'valid'), (100, 0.5, 'valid'), (100, 0.75, 'train')]
  alone = pd.DataFrame(rows, columns=['learner_steps', 'success', 'split'])
  return pd.concat([_evaluator(), alone.assign(arm='task_policy', reward=np.nan)])


def test_learning_curve_without_rewards_is_of_success_alone() -> None:
  figure = run_figures.learning_curve('task_policy', _task_policy(), pd.DataFrame())
  (success,) = figure.axes
  assert success.get_title(loc='left') == 'Task success'
  held_out, trained_on = success.lines
  assert (_data(held_out, 'x'), _data(held_out, 'y')) == ([0, 100], [0, 0.5])
  assert (_data(trained_on, 'x'), _data(trained_on, 'y')) == ([100], [0.75])
  assert not success.texts
  assert plotting.svg(figure).startswith('<svg')


def test_learning_curve_of_a_dense_reward_has_its_return() -> None:
  evaluator = _task_policy()
  dense = evaluator.assign(**{'return': np.arange(len(evaluator)) * 20.0})
  returned, success = run_figures.learning_curve(
    'task_policy', dense, pd.DataFrame()
  ).axes
  assert returned.get_title(loc='left') == 'Return'
  assert success.get_title(loc='left') == 'Task success'
  held_out = dense[(dense['arm'] == 'task_policy') & (dense['split'] == 'valid')]
  assert _data(returned.lines[0], 'y') == held_out['return'].tolist()
  # Of a sparse reward it is the same as success.
  sparse = evaluator.assign(**{'return': evaluator['success']})
  assert (
    len(run_figures.learning_curve('task_policy', sparse, pd.DataFrame()).axes) == 1
  )


def test_learning_curve_says_where_the_policy_begins_anew() -> None:
  def said(steps: int) -> list[tuple[str, float]]:
    figure = run_figures.learning_curve(
      'task_policy', _task_policy(), pd.DataFrame(), begins_anew=steps
    )
    texts = figure.axes[0].texts
    return [(t.get_text(), t.xy[0]) for t in texts if isinstance(t, text.Annotation)]

  assert said(50) == [('begins anew', 50)]
  assert said(0) == said(101) == []


def test_learning_curve_is_of_the_arm_asked_for() -> None:
  figure = run_figures.learning_curve('metamimic', _task_policy(), pd.DataFrame())
  assert len(figure.axes) == 2
  assert _data(figure.axes[1].lines[0], 'y') == [0, 0.4]


def test_training_draws_what_there_is() -> None:
  learner = pd.DataFrame(
    {
      'learner_steps': [10, 20, 30],
      'critic_loss': [3.0, 2.0, 1.0],
      'policy_loss': [0.0, -1.0, -2.0],
      'learner_steps_per_second': [5.0, 5.0, 5.0],
      'environment_steps_per_second': [9.0, 9.0, 9.0],
    }
  )
  actor = pd.DataFrame({'environment_steps': [10, 20], 'reward': [0.2, 0.4]})
  figure = run_figures.training(learner, [actor])
  titles = [axes.get_title(loc='left') for axes in figure.axes]
  assert titles == [
    'Critic loss',
    'Policy loss',
    'Steps per second',
    "Actors' reward while exploring",
  ]
  assert _data(figure.axes[0].lines[0], 'y') == [3, 2, 1]
  task = pd.DataFrame({'environment_steps': [10, 20], 'success': [0.0, 1.0]})
  figure = run_figures.training(learner, [task, task])
  last = figure.axes[-1]
  assert last.get_title(loc='left') == "Actors' success while exploring"
  assert [_data(line, 'y') for line in last.lines] == [[0, 1], [0, 1]]
  assert len(figure.axes) == 4
  # The return of a sparse reward is the same.
  sparse = run_figures.training(learner, [task.assign(**{'return': [0.0, 1.0]})])
  assert len(sparse.axes) == 4
  dense = run_figures.training(learner, [task.assign(**{'return': [20.0, 90.0]})])
  last = dense.axes[-1]
  assert last.get_title(loc='left') == "Actors' return while exploring"
  assert last.get_ylim()[1] > 75
  cloning = learner[['learner_steps', 'learner_steps_per_second']].assign(loss=1.0)
  figure = run_figures.training(cloning, [])
  titles = [axes.get_title(loc='left') for axes in figure.axes]
  assert titles == ['Loss', 'Steps per second']


def test_training_of_a_resumed_run_goes_forward() -> None:
  learner = pd.DataFrame({'learner_steps': [10, 20, 30, 20, 30, 40], 'loss': range(6)})
  actor = pd.DataFrame({'environment_steps': [10, 30, 35, 45], 'reward': 0.5})
  figure = run_figures.training(learner, [actor])
  assert _data(figure.axes[0].lines[0], 'x') == [10, 20, 30, 40]
  assert _data(figure.axes[0].lines[0], 'y') == [0, 3, 4, 5]
  assert _data(figure.axes[-1].lines[0], 'x') == [10, 30, 35, 45]


def test_term_rewards_has_a_bar_a_term_and_arm() -> None:
  summary = statistics.summarise(_evaluation())
  axes = run_figures.term_rewards(summary).axes[0]
  assert [tick.get_text() for tick in axes.get_xticklabels()] == ['arm', 'object']
  heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
  np.testing.assert_allclose(heights, [[0.6, 0.8], [0.9, 1.0]])


def test_reward_distribution_has_every_last_episode() -> None:
  axes = run_figures.reward_distribution(_evaluation()).axes[0]
  names = [tick.get_text() for tick in axes.get_yticklabels()]
  assert names == ['MetaMimic', 'open-loop replay']
  drawn = [
    np.asarray(points.get_offsets())[:, 0].tolist() for points in axes.collections
  ]
  assert drawn == [[0.8, 0.6], [0.95, 0.99]]


def test_steps_to_success_has_every_last_episode_that_succeeds() -> None:
  table = _evaluation().assign(solved=[90, 120, 5, np.nan, 60])
  never = table.iloc[:1].assign(arm='zero', solved=np.nan)
  axes = run_figures.steps_to_success(pd.concat([table, never])).axes[0]
  names = [tick.get_text() for tick in axes.get_yticklabels()]
  assert names == ['MetaMimic', 'open-loop replay']
  drawn = [
    np.asarray(points.get_offsets())[:, 0].tolist() for points in axes.collections
  ]
  assert drawn == [[60], [90, 120]]
  assert axes.get_xlim()[0] == 0


def test_empty_tables_make_empty_figures() -> None:
  nothing = pd.DataFrame()
  for figure in (
    run_figures.learning_curve('bc', nothing, nothing),
    run_figures.training(nothing, []),
    run_figures.term_rewards(nothing),
    run_figures.reward_distribution(nothing),
    run_figures.steps_to_success(nothing),
  ):
    assert plotting.svg(figure).startswith('<svg')
