"""``python -m gridc`` is ``gridc``."""

from gridc.cli import main

if __name__ == "__main__":
    main()
