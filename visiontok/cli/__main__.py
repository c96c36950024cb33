"""`python -m visiontok.cli` is the `visiontok` command."""

from visiontok.cli import main

main()
