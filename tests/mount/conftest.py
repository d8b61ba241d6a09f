"""Fixtures of the tests on a real mount; tests/hostile uses them too. See ppfsmount.py."""
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

import ppfsmount  # noqa: E402
from ppfsmount import PPFS, SLOW, Mount, why_no_fuse  # noqa: E402
from processes import text_of  # noqa: E402
from users import User  # noqa: E402
from watchdog import Watchdog  # noqa: E402


def limit_of(item):
    """Its hang guard in seconds."""
    marker = item.get_closest_marker("limit")
    return marker.args[0] if marker else 55


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): a hang guard other than 55 s for this test")
    config.addinivalue_line("markers", "xdist_group(name): one process runs all of them, where pytest-xdist is here")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def pytest_collection_modifyitems(items):
    """The longest first: with several processes the last one to end is then a short one."""
    items.sort(key=lambda item: -limit_of(item))


def pytest_sessionfinish(session):
    for mount in list(ppfsmount.LIVE):
        mount.abort()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    dog = getattr(item, "funcargs", {}).get("watchdog")
    if report.failed and dog and dog.message:
        report.sections.append(("watchdog", dog.message))
    if report.failed:
        for mount in ppfsmount.LIVE:
            report.sections.append(("log of %s" % mount.mnt, "\n".join(mount.log().splitlines()[-30:])))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    dog = item.funcargs.get("watchdog")
    if dog:
        dog.in_test = True
    outcome = yield
    if dog:
        dog.in_test = False
        # One that only ended because the watchdog killed what it waited for has failed, whatever it made of that.
        if dog.message and outcome.excinfo is None:
            pytest.fail("it hung")


@pytest.fixture(autouse=True)
def watchdog(request):
    with Watchdog(limit_of(request.node) * SLOW, pytest.fail) as dog:
        yield dog


@pytest.fixture
def built():
    """The program under test exists."""
    assert PPFS.exists(), "%s is missing: run scripts/build, or set PPFS_BUILD" % PPFS


@pytest.fixture
def base(watchdog, built):
    """A directory of the test's own that other users may pass through."""
    path = Path(tempfile.mkdtemp(prefix="ppfs-test."))
    path.chmod(0o755)
    yield path
    if not any(line.split()[4].startswith("%s/" % path) for line in text_of("/proc/self/mountinfo").splitlines()):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def new_user(base):
    """Makes a user of the machine; he and all that runs as him are gone when the test ends. Needs root."""
    if os.geteuid():
        pytest.skip("only root can make users")
    made = []

    def make():
        made.append(User(base))
        return made[-1]

    yield make
    for user in made:
        user.remove()


@pytest.fixture
def alice(new_user):
    return new_user()


@pytest.fixture
def mallory(new_user):
    """Who does what he should not."""
    return new_user()


@pytest.fixture
def fuse():
    """Skips where nobody can mount."""
    reason = why_no_fuse()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def new_mount(base, fuse):
    """Makes a Mount that is not started yet; it is finished, with all checks, when the test ends."""
    made = []

    def make(**kw):
        where = kw.pop("base", base)
        mount = Mount(where, **kw)
        made.append(mount)
        os.chdir(mount.work)
        return mount

    before = os.getcwd()
    yield make
    os.chdir(before)
    faults = []
    for mount in made:
        try:
            mount.finish()
        except AssertionError as e:
            faults.append(str(e))
    assert not faults, "\n".join(faults)


@pytest.fixture
def shared(new_user, new_mount):
    """A mount of root's with two slots that everybody may use."""
    mount = new_mount(options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    return mount.start()


@pytest.fixture
def m(new_mount):
    """A mount with two slots, ready."""
    return new_mount().start()


@pytest.fixture
def m1(new_mount):
    """A mount with one slot: what runs next is a choice."""
    return new_mount(cpus=1).start()


@pytest.fixture
def queue(new_mount):
    """A mount with no slot: everything stays queued until the test writes nodes/local/cpus."""
    return new_mount(cpus=0).start()
