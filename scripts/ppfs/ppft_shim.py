"""import ppfs.ppft_shim: from here on `import ppft` and `import pp` give ppfs' answer to them  (compat/dropin)

Programs need no changed line: PYTHONPATH=$(ppfs-python --ppft) does the same from outside.
"""
import os
import sys

directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compat", "dropin")


def install() -> None:
    """Puts the directory of our ppft and pp before all others. ImportError: another ppft or pp was imported already."""
    for name in ("ppft", "pp"):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None and not os.path.abspath(path).startswith(directory + os.sep):
            raise ImportError("%s was imported from %s already; import ppfs.ppft_shim before it" % (name, path))
    if directory not in sys.path:
        sys.path.insert(0, directory)


install()
