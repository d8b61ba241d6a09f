"""ppft's interface: import ppfs.pp as pp  (compat/pp.py)"""
from .compat.pp import DestroyedServerError, Server, Template, copyright, version

__all__ = ["DestroyedServerError", "Server", "Template", "copyright", "version"]
