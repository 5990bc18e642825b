"""What a test target of Bazel runs: pytest on the files that are its arguments."""

import os
import sys

try:
  import pytest
except ModuleNotFoundError:
  sys.exit(
    f'{sys.executable} is not the virtual environment of MetaMimic: run '
    '`make bazel-test`, or `make setup` and then '
    'PATH="$PWD/.venv/bin:$PATH" bazel test //...'
  )

if __name__ == '__main__':
  arguments = ['-p', 'no:cacheprovider', *sys.argv[1:]]
  if report := os.environ.get('XML_OUTPUT_FILE'):
    arguments.append(f'--junitxml={report}')
  sys.exit(pytest.main(arguments))
