"""Figures of several runs together, in the style of `metamimic.plotting`."""

from collections.abc import Mapping, Sequence
import textwrap

import matplotlib as mpl
from matplotlib import colors
from matplotlib import figure as figure_lib
from matplotlib import ticker
import numpy as np
import pandas as pd

from benchmarks import solving
from metamimic import arms
from metamimic import plotting
from metamimic import statistics


@mpl.rc_context(plotting.STYLE)
def robustness(rows: pd.DataFrame) -> figure_lib.Figure:
  """Draws how often each arm solves the task over the strength of each disturbance.

  Bars are 95 % intervals; see `intervals.rate`.

  Args:
    rows: evaluation.csv's columns, and disturbance and strength; the rows of the
      disturbance `none` are those of strength 0.
  """
  kinds = [kind for kind in rows['disturbance'].unique() if kind != 'none']
  rows = rows.assign(success=rows['solved'].notna())
  hidden = (statistics.FLOOR, *statistics.MISGUIDED)
  drawn = [a for a in statistics.order(list(rows['arm'])) if a not in hidden]
  columns = min(4, max(len(kinds), 1))
  height = -(-max(len(kinds), 1) // columns)
  beside = max(columns, 2)  # In the legend, which is as wide as two panels at least.
  lines = -(-len(drawn) // beside)
  figure, panels = plotting.make_panels(
    height, columns, (3.1 * beside, 2.7 * height + 0.25 * lines)
  )
  for axes, kind in zip(panels, kinds, strict=False):
    plotting.share_axis(axes, plotting.label(kind).capitalize(), 'success')
    shown = rows[rows['disturbance'].isin([kind, 'none'])]
    # A factor is undisturbed at 1.
    undisturbed = 1.0 if kind in ('mass', 'friction') else 0.0
    strength = shown['strength'].where(shown['disturbance'] == kind, undisturbed)
    for arm in drawn:
      of_arm = shown['arm'] == arm
      groups = shown[of_arm].groupby(strength[of_arm])
      mean = groups['success'].mean()
      bounds = [statistics.success_interval(episodes) for _, episodes in groups]
      low, high = np.reshape(bounds, (-1, 2)).T
      axes.errorbar(
        mean.index.to_numpy(),
        mean.to_numpy(),
        np.abs([mean - low, high - mean]),
        color=plotting.colour(arm),
        label=plotting.label(arm),
        marker='o',
        elinewidth=0.8,
        linewidth=1.4,
      )
  for axes in panels[len(kinds) :]:
    axes.remove()
  if kinds:
    figure.legend(
      *panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=beside
    )
  return figure


@mpl.rc_context(plotting.STYLE)
def demonstrations(summary: pd.DataFrame) -> figure_lib.Figure:
  """Draws held-out reward over how many demonstrations were trained on.

  Args:
    summary: columns task, demonstrations, and ratio, ratio_low and ratio_high, which
      are of open-loop replay's reward.
  """
  figure, (axes,) = plotting.make_panels(1, 1, (6, 3.6))
  plotting.share_axis(axes, 'Held-out demonstrations', "reward, of open-loop replay's")
  for i, (task, rows) in enumerate(summary.groupby('task', sort=False)):
    rows = rows.sort_values('demonstrations')
    ratio = rows['ratio'].to_numpy(float)
    ends = [rows[f'ratio_{end}'].to_numpy(float) for end in ('low', 'high')]
    axes.errorbar(
      rows['demonstrations'].to_numpy(float),
      ratio,
      np.abs([ratio - ends[0], ends[1] - ratio]),
      color=(plotting.POLICY_COLOUR, plotting.SECOND_COLOUR)[i % 2],
      marker='os'[i % 2],
      elinewidth=0.9,
      capsize=3,
      label=plotting.label(str(task)),
    )
  axes.set_xscale('log')
  counts = sorted(summary['demonstrations'].unique())
  axes.set_xticks(counts, [str(count) for count in counts])
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.set_xlabel('training demonstrations')
  if summary['task'].nunique() > 1:
    axes.legend(loc='lower right')
  return figure


_DARKER = (1.0, 0.66, 0.33)
STYLES: tuple[tuple[str, float], ...] = tuple(
  (dashes, darker) for darker in _DARKER for dashes in ('-', '--', ':', '-.')
)
"""Of the curves of one arm, each another: dashes, and what its colour is multiplied
by."""
_LABEL = 48  # Letters in a line of the legend.


@mpl.rc_context(plotting.STYLE)
def steps_to_success(curves: Sequence[solving.Curve]) -> figure_lib.Figure:
  """Draws the share of episodes that are solved within so many steps, a panel a task.

  Args:
    curves: of one or more tasks; of an arm that has several, each gets another of
      `STYLES`.
  """
  tasks = list(dict.fromkeys(curve.task for curve in curves))
  figure, panels = plotting.make_panels(len(tasks), 1, (8.4, 3.8 * len(tasks)))
  for axes, task in zip(panels, tasks, strict=True):
    shown = [curve for curve in curves if curve.task == task]
    plotting.share_axis(axes, plotting.label(task), 'share solved by then')
    solved = np.concatenate([curve.solved for curve in shown])
    last = 1.05 * max(solved[np.isfinite(solved)], default=1.0)
    styles = {arm: iter(STYLES) for arm in arms.ARMS}
    for curve in shown:
      dashes, darker = next(styles[curve.arm])
      red, green, blue = colors.to_rgb(plotting.colour(curve.arm))
      share = np.arange(1, len(curve.solved) + 1) / len(curve.solved)
      soon = np.isfinite(curve.solved)
      axes.step(
        np.concatenate([[0.0], curve.solved[soon], [last]]),
        np.concatenate([[0.0], share[soon], [soon.mean()]]),
        where='post',
        color=(darker * red, darker * green, darker * blue),
        linestyle=dashes,
        linewidth=1.4,
        label=textwrap.fill(curve.label, _LABEL),
      )
    axes.set(xlim=(0, last), xlabel='control steps')
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), fontsize=7)
  return figure


@mpl.rc_context(plotting.STYLE)
def networks(panels: Mapping[str, pd.DataFrame]) -> figure_lib.Figure:
  """Draws held-out reward over the size of networks, normalised and not.

  Args:
    panels: by what sizes are of; rows with size, from the smallest on, layer_norm,
      reward, reward_low and reward_high.
  """
  size = 3.1 + 2.9 * len(panels), 3.6
  figure, drawn = plotting.make_panels(1, len(panels), size)
  for axes, (of, rows) in zip(drawn, panels.items(), strict=True):
    plotting.share_axis(axes, 'Held-out demonstrations', 'mean reward per step')
    sizes = list(dict.fromkeys(rows['size']))
    for normalised, name, colour, marker in (
      (True, 'normalised', plotting.POLICY_COLOUR, 'o'),
      (False, 'not', plotting.SECOND_COLOUR, 's'),
    ):
      line = rows[rows['layer_norm'] == normalised]
      if line.empty:
        continue
      reward = line['reward'].to_numpy(float)
      ends = [line[f'reward_{end}'].to_numpy(float) for end in ('low', 'high')]
      axes.errorbar(
        [sizes.index(size) for size in line['size']],
        reward,
        np.abs([reward - ends[0], ends[1] - reward]),
        color=colour,
        marker=marker,
        elinewidth=0.9,
        capsize=3,
        label=name,
      )
    axes.set_xlim(-0.3, len(sizes) - 0.7)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel(of)
    axes.legend(loc='lower right')
  return figure


@mpl.rc_context(plotting.STYLE)
def yardstick(
  rows: pd.DataFrame, means: Mapping[str, 'pd.Series[float]']
) -> figure_lib.Figure:
  """Draws returns over frames: thin each seed, thick their mean.

  Args:
    rows: who, seed, frame and return.
    means: by who, over frames.
  """
  figure, (axes,) = plotting.make_panels(1, 1, (7, 3.8))
  colours = (plotting.POLICY_COLOUR, plotting.SECOND_COLOUR)
  for colour, (who, of) in zip(colours, rows.groupby('who', sort=False), strict=True):
    for _, seed in of.groupby('seed'):
      axes.plot(seed['frame'], seed['return'], color=colour, linewidth=0.5, alpha=0.5)
    mean = means[str(who)]
    axes.plot(mean.index, mean, color=colour, linewidth=1.8, label=str(who))
  axes.set(xlim=(0, None), ylim=(0, 250), xlabel='frames', ylabel='return')
  axes.set_title("reach_duplo from pictures, dm_control's own reward")
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  axes.legend(loc='lower right')
  return figure


@mpl.rc_context(plotting.STYLE)
def film_strips(
  names: Sequence[str], strips: Sequence[np.ndarray]
) -> figure_lib.Figure:
  """Draws a demonstration, and below it what a policy made of it, for each name.

  Args:
    names: of the strips.
    strips: uint8 (2, frames, H, W, 3) each, the demonstration first.
  """
  height, width = strips[0].shape[2:4]
  columns = strips[0].shape[1]
  figure, panels = plotting.make_panels(
    len(names), 1, (columns, 2.05 * len(names) * height / width + 0.2)
  )
  for axes, name, strip in zip(panels, names, strips, strict=True):
    axes.imshow(np.concatenate([np.concatenate(row, 1) for row in strip]))
    axes.set_ylabel(plotting.label(name), fontweight='bold')
    axes.set(xticks=[], yticks=[height / 2, 1.5 * height])
    axes.set_yticklabels(['shown', 'done'])
    axes.spines[:].set_visible(False)
    axes.grid(False)
  return figure
