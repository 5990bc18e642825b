import numpy as np
import pandas as pd

from benchmarks import figures


def test_demonstrations_are_on_a_logarithmic_axis_with_intervals() -> None:
  rows = [('lift', 100, 0.8, 0.7, 0.85), ('lift', 10, 0.5, 0.3, 0.6)]
  columns = ['task', 'demonstrations', 'ratio', 'ratio_low', 'ratio_high']
  figure = figures.demonstrations(pd.DataFrame(rows, columns=columns))
  (axes,) = figure.axes
  assert axes.get_xscale() == 'log'
  assert [text.get_text() for text in axes.get_xticklabels()] == ['10', '100']
  points = np.asarray(axes.lines[0].get_xydata())
  np.testing.assert_array_equal(points, np.array([[10, 0.5], [100, 0.8]]))
  (bars,) = axes.containers[0].lines[2]  # type: ignore[attr-defined]
  ends = np.array([path.vertices[:, 1] for path in bars.get_paths()])
  np.testing.assert_allclose(ends, [[0.3, 0.6], [0.7, 0.85]])
