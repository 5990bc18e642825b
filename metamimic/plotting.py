"""What all figures share: how they look, their panels, how they are read and written.

Markers and dashes say what colours do, in grey print.
"""

import io
import os
import pathlib
import re
from typing import Any

import matplotlib as mpl
from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
import pandas as pd

from metamimic import arms

_SPLITS = {
  'valid': 'held-out',
  'novel': 'held-out, novel skills',
  'train': 'training',
}
POLICY_COLOUR = arms.ARMS['metamimic'].colour
"""Of what there is one of."""
SECOND_COLOUR = '#D55E00'
"""Of the other, where there are two."""
STYLE: dict[str, Any] = {
  'svg.fonttype': 'none',
  'font.size': 10,
  'axes.titlesize': 11,
  'axes.titleweight': 'bold',
  'axes.titlelocation': 'left',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.edgecolor': '#555555',
  'axes.grid': True,
  'axes.grid.axis': 'y',
  'axes.axisbelow': True,
  'grid.color': '#E4E4E4',
  'xtick.color': '#444444',
  'ytick.color': '#444444',
  'legend.frameon': False,
  'lines.linewidth': 1.8,
  'lines.markersize': 4.5,
}
"""Settings of matplotlib that all figures share."""


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
  """Reads a CSV file of a run, perhaps while it grows.

  Returns:
    Its rows without a last, half-written one; an empty table where there is no file.
  """
  try:
    content = pathlib.Path(path).read_text()
  except FileNotFoundError:
    return pd.DataFrame()
  complete = content[: content.rfind('\n') + 1]
  return pd.read_csv(io.StringIO(complete)) if complete else pd.DataFrame()


def label(name: str) -> str:
  """Returns how an arm, split or column is called in figures and tables."""
  if name in arms.ARMS:
    return arms.ARMS[name].label
  return _SPLITS.get(name, name.replace('_', ' '))


def svg(figure: figure_lib.Figure) -> str:
  """Returns `figure` as an <svg> element to put into a page; its text stays text."""
  buffer = io.StringIO()
  title = '|'.join(axes.get_title(loc='left') for axes in figure.axes)
  # The salt keeps the identifiers of several figures in one page apart.
  with mpl.rc_context({**STYLE, 'svg.hashsalt': title}):
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
  element = buffer.getvalue()
  return re.sub(
    r'<metadata>.*?</metadata>', '', element[element.index('<svg') :], flags=re.DOTALL
  )


def save(figure: figure_lib.Figure, path: str | os.PathLike[str]) -> None:
  """Writes `figure` to a temporary name first; the format is the path's ending."""
  target = pathlib.Path(path)
  temporary = target.with_name(f'.{target.stem}.{os.getpid()}{target.suffix}')
  try:
    with mpl.rc_context(STYLE):
      figure.savefig(temporary, dpi=200)
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)


def make_panels(
  rows: int, columns: int, size: tuple[float, float]
) -> tuple[figure_lib.Figure, list[axes_lib.Axes]]:
  """Returns a figure with panels, row by row; `size` is in inches, width first."""
  figure = figure_lib.Figure(figsize=size)
  figure.set_layout_engine('constrained', hspace=0.08, wspace=0.04)
  return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def colour(arm: str) -> str:
  """Returns an arm's colour; of one that is none, the policy's."""
  return arms.ARMS[arm].colour if arm in arms.ARMS else POLICY_COLOUR


def share_axis(axes: axes_lib.Axes, title: str, unit: str) -> None:
  """Makes the vertical axis one of shares, 0 to 1."""
  axes.set_title(title)
  axes.set(ylim=(0, 1.09), ylabel=unit)
