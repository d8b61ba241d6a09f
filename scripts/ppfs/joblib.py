"""The joblib backend "ppfs": ppfs.joblib.register()  (compat/joblib.py)"""
from .compat.joblib import PpfsBackend, register

__all__ = ["PpfsBackend", "register"]
