"""Interfaces of other packages over ppfs.Executor.

pp.py           ppft's, as ppfs.pp
joblib.py       the joblib backend "ppfs", as ppfs.joblib
"""
