"""The hostile tests use the fixtures of tests/mount, and the nodes of tests/nodes."""
import importlib.util
import sys
from pathlib import Path

MOUNT = Path(__file__).resolve().parents[1] / "mount"
sys.path.insert(0, str(MOUNT))
_spec = importlib.util.spec_from_file_location("mount_conftest", MOUNT / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(MOUNT.parent / "nodes"))
from fulldisk import small, tight  # noqa: E402, F401
