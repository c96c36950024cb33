"""`python -m visiontok` is the `visiontok` command."""

from visiontok.cli import main

if __name__ == "__main__":
    main()
