"""Python rules over what Bazel has by itself; packages come from requirements.txt."""

def python_package(name, deps = [], pip = [], visibility = None):
    """A package of this repository: everything in its folder.

    Args:
      name: the folder's name, so that `//name` is the package.
      deps: packages of this repository that it imports: those of earlier layers.
      pip: distributions that it imports; for the reader, Bazel does not provide them.
      visibility: packages that may import it: those of later layers.
    """
    native.py_library(
        name = name,
        srcs = native.glob(["**/*.py"]),
        data = native.glob(
            ["**"],
            exclude = ["**/*.py", "**/*.pyc", "BUILD.bazel"],
        ),
        deps = deps,
        tags = ["pip:" + distribution for distribution in pip],
        visibility = visibility,
    )

def pytest_tests(srcs, helpers = [], data = [], deps = [], **kwargs):
    """A test target for each file, run by pytest with the settings of pyproject.toml.

    Args:
      srcs: test files; `envs/tasks_test.py` becomes the target `envs/tasks_test`.
      helpers: Python files that the tests import, and conftest files.
      data: files that they read.
      deps: packages of this repository that they import.
      **kwargs: of every py_test.
    """
    for src in srcs:
        native.py_test(
            name = src[:-len(".py")],
            srcs = [src, "//third_party/bazel:pytest_main.py"] + helpers,
            main = "//third_party/bazel:pytest_main.py",
            args = ["$(location %s)" % src],
            data = ["//:settings"] + data,
            deps = deps,
            **kwargs
        )
