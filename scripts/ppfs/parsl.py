"""The executor for Parsl: ppfs.parsl.PpfsExecutor()  (compat/parsl.py)"""
from .compat.parsl import PpfsExecutor

__all__ = ["PpfsExecutor"]
