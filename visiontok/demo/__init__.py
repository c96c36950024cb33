"""The demo: the whole way from pictures to tokens to new pictures, on data that comes with the library."""

from visiontok.demo.bars import Bar
from visiontok.demo.run import DemoOutcome, run_demo
from visiontok.demo.settings import DemoConfig

__all__ = ["Bar", "DemoConfig", "DemoOutcome", "run_demo"]
