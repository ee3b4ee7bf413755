"""`python -m carryover` is the same door as the `carryover` command."""

from carryover.cli.main import main

if __name__ == "__main__":
    main()
