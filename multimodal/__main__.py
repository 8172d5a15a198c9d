"""``python -m multimodal``: the command line."""

from multimodal.cli import main

if __name__ == "__main__":
    main()
