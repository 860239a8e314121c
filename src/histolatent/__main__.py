"""`python -m histolatent` is `histolatent`."""

from .cli import main

if __name__ == "__main__":
    main()
