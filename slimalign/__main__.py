"""``python -m slimalign``."""

from slimalign.cli import main

if __name__ == "__main__":
    main()
