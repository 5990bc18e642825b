"""Figures of a run, drawn from its CSV files and from nothing else.

Every function takes tables as `plotting.read` returns them and gives a matplotlib
figure, whose data may be partial: what is not there is not drawn.
"""

from collections.abc import Sequence
import functools
from typing import Any

import matplotlib as mpl
from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import ticker
import numpy as np
import pandas as pd

from metamimic import plotting
from metamimic import statistics


@mpl.rc_context(plotting.STYLE)
def learning_curve(
  arm: str, evaluator: pd.DataFrame, evaluation: pd.DataFrame, begins_anew: int = 0
) -> figure_lib.Figure:
  """Draws a policy's reward, return and success over learner steps, per split.

  The ceiling and the floor are open-loop replay's and no action's reward on the
  held-out demonstrations. A policy that follows none has no reward to draw; the return
  is drawn of a dense reward, because a sparse one's is the same as success.

  Args:
    arm: the policy.
    evaluator: logs/evaluator.csv.
    evaluation: evaluation.csv; its last point is the one with the most episodes, and
      its controls are preferred to the evaluator's own.
    begins_anew: learner steps after which it does, and a line says so; 0: never.
  """
  points = evaluator
  if not evaluation.empty:
    final = statistics.summarise(evaluation)
    points = pd.concat(
      [evaluator, final[['arm', 'split', 'learner_steps', 'reward', 'success']]]
    )
  if not points.empty:
    if 'return' in points:
      same = points.groupby(['arm', 'split', 'learner_steps'])
      points = points.assign(**{'return': same['return'].transform('last')})
    points = points.drop_duplicates(['arm', 'split', 'learner_steps'], keep='last')
    # Held-out, which is called valid, before training.
    points = points.sort_values(['split', 'learner_steps'], ascending=[False, True])
  policy = points[points['arm'] == arm] if len(points) else points
  rewarded = policy.empty or policy['reward'].notna().any()
  columns = ['reward'] if rewarded else []
  columns += ['return'] if 'return' in policy and (policy['return'] > 1).any() else []
  columns += ['success']
  figure, panels = plotting.make_panels(1, len(columns), (10, 3.9))
  success = panels[-1]
  plotting.share_axis(success, 'Task success', 'share of episodes')
  if rewarded:
    plotting.share_axis(panels[0], 'Imitation reward', 'mean reward per step')
  if policy.empty:
    return figure
  if 'return' in columns:
    panels[-2].set_title('Return')
    panels[-2].set(ylim=(0, None), ylabel='sum of the reward')
  for split, curve in policy.groupby('split', sort=False):
    for axes, column in zip(panels, columns, strict=True):
      axes.plot(
        curve['learner_steps'],
        curve[column],
        **_split_style(str(split)),
        label=plotting.label(str(split)),
      )
  for control, name in ((statistics.CEILING, 'ceiling'), (statistics.FLOOR, 'floor')):
    level = points[
      (points['arm'] == control) & (points['split'] == statistics.SPLITS[0])
    ]
    if not level.empty and rewarded:
      text = f'{name}: {plotting.label(control)}'
      _draw_level(panels[0], level['reward'].iloc[-1], text, control)
  for axes in panels:
    if 0 < begins_anew <= policy['learner_steps'].max():
      _draw_beginning(axes, begins_anew)
    _steps_axis(axes, policy['learner_steps'])
  success.legend(title='demonstrations', loc='lower right', alignment='left')
  return figure


@mpl.rc_context(plotting.STYLE)
def training(
  learner: pd.DataFrame, actors: Sequence[pd.DataFrame]
) -> figure_lib.Figure:
  """Draws losses, rates and the actors' own reward.

  Args:
    learner: logs/learner-<name>.csv.
    actors: logs/actor-<i>.csv of each actor; none for behavioural cloning.
  """
  learner = _without_undone(learner)
  losses = [
    c for c in ('critic_loss', 'value_loss', 'policy_loss', 'loss') if c in learner
  ]
  panels = [
    (plotting.label(loss).capitalize(), functools.partial(_draw_loss, learner, loss))
    for loss in losses
  ]
  panels.append(('Steps per second', functools.partial(_draw_rates, learner)))
  rewarded = [actor for actor in actors if {'environment_steps', 'reward'} <= {*actor}]
  if rewarded:
    panels.append(
      (
        "Actors' reward while exploring",
        functools.partial(_draw_actors, 'reward', rewarded),
      )
    )
  solving = [actor for actor in actors if {'environment_steps', 'success'} <= {*actor}]
  if solving:
    panels.append(
      (
        "Actors' success while exploring",
        functools.partial(_draw_actors, 'success', solving),
      )
    )
  # Of a sparse reward it is the same as success.
  dense = [a for a in solving if 'return' in a and (a['return'] > 1).any()]
  if dense:
    panels.append(
      (
        "Actors' return while exploring",
        functools.partial(_draw_actors, 'return', dense),
      )
    )
  columns = min(2, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = plotting.make_panels(rows, columns, (10, 3.2 * rows))
  for place, (title, draw) in zip(axes, panels, strict=False):
    place.set_title(title)
    draw(place)
  for place in axes[len(panels) :]:
    place.remove()
  return figure


@mpl.rc_context(plotting.STYLE)
def term_rewards(summary: pd.DataFrame) -> figure_lib.Figure:
  """Draws each reward term's mean on the held-out demonstrations, a bar an arm.

  Args:
    summary: `statistics.summarise` of evaluation.csv.
  """
  held_out = _held_out(summary)
  held_out = held_out.dropna(subset='reward') if len(held_out) else held_out
  names = statistics.terms(held_out)
  figure, (axes,) = plotting.make_panels(1, 1, (10, 3.6))
  plotting.share_axis(axes, 'Reward by term', 'mean reward per step')
  axes.set_xticks(range(len(names)), names)
  axes.tick_params(axis='x', length=0)
  width = 0.8 / max(len(held_out), 1)
  for i, (_, row) in enumerate(held_out.iterrows()):
    offset = (i - (len(held_out) - 1) / 2) * width
    heights = [row[f'reward/{name}'] for name in names]
    bars = axes.bar(
      np.arange(len(names)) + offset,
      heights,
      0.92 * width,
      color=plotting.colour(row['arm']),
      label=plotting.label(row['arm']),
    )
    if not i:
      axes.bar_label(bars, fmt='%.2f', fontsize=8, padding=1)
  if len(held_out):
    figure.legend(
      *axes.get_legend_handles_labels(), loc='outside lower center', ncols=6
    )
  return figure


@mpl.rc_context(plotting.STYLE)
def reward_distribution(evaluation: pd.DataFrame) -> figure_lib.Figure:
  """Draws every held-out episode's reward, with quartiles, for each arm.

  Args:
    evaluation: evaluation.csv.
  """
  figure, axes = _distribution(evaluation, 'total')
  axes.set_title('Reward of each held-out episode')
  axes.set(xlim=(0, 1.02), xlabel='mean reward per step')
  return figure


@mpl.rc_context(plotting.STYLE)
def steps_to_success(evaluation: pd.DataFrame) -> figure_lib.Figure:
  """Draws the control steps to success of each held-out episode that has one.

  Args:
    evaluation: evaluation.csv.
  """
  figure, axes = _distribution(evaluation, 'solved')
  axes.set_title('Steps to success of each held-out episode that succeeds')
  axes.set_xlim(left=0)
  axes.set_xlabel('control steps of 0.04 s')
  return figure


def _distribution(
  evaluation: pd.DataFrame, column: str
) -> tuple[figure_lib.Figure, axes_lib.Axes]:
  """Draws a column's held-out values, with quartiles, for each arm that has any."""
  rows = _held_out(statistics.last(evaluation)) if len(evaluation) else evaluation
  rows = rows.dropna(subset=column) if len(rows) else rows
  shown = statistics.order(list(rows['arm'])) if len(rows) else []
  figure, (axes,) = plotting.make_panels(1, 1, (10, 1.2 + 0.5 * max(len(shown), 1)))
  axes.grid(axis='y', visible=False)
  axes.grid(axis='x', visible=True)
  random = np.random.default_rng(0)
  for i, arm in enumerate(shown):
    values = rows.loc[rows['arm'] == arm, column].to_numpy(float)
    axes.boxplot(
      values,
      positions=[i],
      widths=0.62,
      orientation='horizontal',
      showfliers=False,
      patch_artist=True,
      boxprops={'facecolor': plotting.colour(arm), 'alpha': 0.18, 'linewidth': 0.8},
      medianprops={'color': '#222222', 'linewidth': 1.6},
      whiskerprops={'color': '#777777'},
      capprops={'color': '#777777'},
    )
    jitter = random.uniform(-0.2, 0.2, values.size)
    axes.scatter(
      values, i + jitter, s=11, color=plotting.colour(arm), linewidths=0, zorder=3
    )
  axes.set_yticks(range(len(shown)), [plotting.label(arm) for arm in shown])
  axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
  return figure, axes


def _held_out(table: pd.DataFrame) -> pd.DataFrame:
  return table[table['split'] == statistics.SPLITS[0]] if 'split' in table else table


def _split_style(split: str) -> dict[str, Any]:
  if split == statistics.SPLITS[0]:
    return {'color': plotting.POLICY_COLOUR, 'marker': 'o', 'zorder': 3}
  if split == 'novel':
    return {
      'color': plotting.SECOND_COLOUR,
      'marker': '^',
      'linestyle': ':',
      'zorder': 3,
    }
  return {'color': '#56B4E9', 'marker': 's', 'linestyle': '--', 'markersize': 3.5}


def _steps_axis(axes: axes_lib.Axes, steps: 'pd.Series[Any]') -> None:
  axes.set_xlabel('learner steps')
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  if len(steps):
    axes.set_xlim(0, max(1.02 * steps.max(), 1))


def _draw_level(axes: axes_lib.Axes, value: float, text: str, arm: str) -> None:
  # The text keeps out of the way of the curve, which is between the two levels.
  up = arm == statistics.CEILING
  axes.axhline(
    value, color=plotting.colour(arm), linestyle=(0, (5, 2)), linewidth=1.4, zorder=1
  )
  axes.annotate(
    f'{text} ({value:.2f})',
    (0.985, value),
    xycoords=axes.get_yaxis_transform(),
    xytext=(0, 3 if up else -3),
    textcoords='offset points',
    ha='right',
    va='bottom' if up else 'top',
    color=plotting.colour(arm),
    fontsize=9,
  )


def _draw_beginning(axes: axes_lib.Axes, steps: int) -> None:
  axes.axvline(steps, color='#999999', linestyle=':', linewidth=1.2, zorder=1)
  axes.annotate(
    'begins anew',
    (steps, 0.02),
    xycoords=axes.get_xaxis_transform(),
    xytext=(-3, 0),
    textcoords='offset points',
    rotation=90,
    ha='right',
    va='bottom',
    color='#777777',
    fontsize=9,
  )


def _without_undone(learner: pd.DataFrame) -> pd.DataFrame:
  """Leaves out the steps that a resumed run did again from its checkpoint."""
  if 'learner_steps' not in learner:
    return learner
  steps = learner['learner_steps']
  still_to_come = steps[::-1].cummin()[::-1].shift(-1, fill_value=np.inf)
  return learner[steps < still_to_come]


def _draw_loss(learner: pd.DataFrame, column: str, axes: axes_lib.Axes) -> None:
  axes.plot(learner['learner_steps'], learner[column], color=plotting.POLICY_COLOUR)
  _steps_axis(axes, learner['learner_steps'])


def _draw_rates(learner: pd.DataFrame, axes: axes_lib.Axes) -> None:
  for name, colour, dashes in (
    ('learner', plotting.POLICY_COLOUR, '-'),
    ('environment', plotting.SECOND_COLOUR, '--'),
  ):
    column = f'{name}_steps_per_second'
    if column in learner:
      steps = learner['learner_steps']
      axes.plot(steps, learner[column], dashes, color=colour, label=name)
      _steps_axis(axes, steps)
  axes.set_ylim(bottom=0)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(loc='lower right')


def _draw_actors(
  column: str, actors: Sequence[pd.DataFrame], axes: axes_lib.Axes
) -> None:
  for actor in actors:
    window = max(len(actor) // 50, 1)
    axes.plot(
      actor['environment_steps'],
      actor[column].rolling(window, min_periods=1).mean(),
      color=plotting.POLICY_COLOUR,
      linewidth=1.2,
    )
  most = None if column == 'return' else 1.05
  axes.set(ylim=(0, most), xlabel='environment steps of one actor')
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
