"""The demo: tokenizer, tokens, generator and evaluation in one run, on data that comes with the library."""

from visiontok.demo.run import DemoOutcome, run_demo
from visiontok.demo.settings import DemoConfig
from visiontok.demo.targets import DemoTarget

__all__ = ["DemoConfig", "DemoOutcome", "DemoTarget", "run_demo"]
