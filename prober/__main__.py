"""``python -m prober`` is the console script."""

from prober.cli import main

if __name__ == "__main__":
    main()
