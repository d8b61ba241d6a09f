"""python -m ppft.server: ppserver, as a ppfs-node  (ppfs/compat/ppserver.py)"""
from ppfs.compat.ppserver import words

__all__ = ["words"]
