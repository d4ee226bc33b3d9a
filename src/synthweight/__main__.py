"""`python -m synthweight`: the command `synthweight`."""

from .cli.main import main

if __name__ == "__main__":
    main()
