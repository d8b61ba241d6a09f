"""The package in a kernel of Jupyter's, as a notebook runs it."""
import os
import queue

import pytest
from conftest import SCRIPTS
from ppfsmount import SLOW, need_module, wait_until

need_module("ipykernel")
manager = need_module("jupyter_client.manager")


class Kernel:
    def __init__(self, m):
        self.manager = manager.KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(m.work), env={
            **m.client_env(), "PPFS": str(m.mnt), "HOME": str(m.base), "IPYTHONDIR": str(m.base), "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join((str(SCRIPTS), os.path.dirname(__file__)))})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60 * SLOW)
        assert self.run("import os, ppfs\nfrom called import until\nex = ppfs.Executor()") == []

    def begin(self, code):
        self.cell = self.client.execute(code)

    def message(self):
        """The next one of that cell."""
        while True:
            message = self.client.get_iopub_msg(timeout=30 * SLOW)
            if message["parent_header"].get("msg_id") == self.cell:
                return message["msg_type"], message["content"]

    def rest(self):
        """What came until the cell was done."""
        found = []
        while True:
            kind, content = self.message()
            if kind == "status" and content["execution_state"] == "idle":
                return found
            if kind not in ("status", "execute_input"):
                found.append((kind, content))

    def run(self, code):
        self.begin(code)
        return self.rest()

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(m):
    it = Kernel(m)
    yield it
    it.stop()


def printed(messages, name="stdout"):
    return "".join(content["text"] for kind, content in messages if kind == "stream" and content["name"] == name)


def test_what_calls_print(m, kernel):
    """Is in the cell while they run, from workers that know nothing of notebooks; joblib's is there once."""
    kernel.begin("def say(go):\n  print('begun', flush=True)\n  until(go)\n  print('over')\n  return 7\n"
                 "ex.submit(say, %r).result()" % str(m.work / "go"))
    while True:
        kind, content = kernel.message()
        if kind == "stream":
            break
    assert content == {"name": "stdout", "text": "begun\n"} and not (m.work / "go").exists()
    (m.work / "go").touch()
    rest = kernel.rest()
    assert printed(rest) == "over\n" and ("execute_result", "7") in [
        (kind, content.get("data", {}).get("text/plain")) for kind, content in rest]
    assert printed(kernel.run("with ppfs.Executor(stdout=False) as quiet: quiet.submit(print, 'x').result()")) == ""
    need_module("joblib")
    assert printed(kernel.run("import joblib\nppfs.joblib.register()\nwith joblib.parallel_backend('ppfs'):\n"
                              "  joblib.Parallel(n_jobs=2)(joblib.delayed(print)('once') for _ in range(1))\n")) == "once\n"


def test_interrupting_the_kernel(m, kernel):
    """Cancels what the cell waits for; the executor goes on."""
    kernel.run("def meanwhile(n=0):\n  open(%r, 'w').close()\n  until(%r)" % (str(m.work / "begun"), str(m.work / "never")))
    for cell in ("ex.submit(meanwhile).result()", "list(ex.map(meanwhile, range(2)))", "ppfs.progress([ex.submit(meanwhile)])"):
        waits = False
        while not waits:  # a call may begin before the cell waits for it
            (m.work / "begun").unlink(missing_ok=True)  # of the other call, which began later
            kernel.begin(cell)
            wait_until((m.work / "begun").exists, "the call to begin")
            kernel.manager.interrupt_kernel()
            errors = [content for kind, content in kernel.rest() if kind == "error"]
            assert [content["ename"] for content in errors] == ["KeyboardInterrupt"]
            waits = any(name in "".join(errors[0]["traceback"]) for name in ("inbox.py", "threads.py", "threading.py"))
            if not waits:
                (m.work / "never").touch()
                wait_until(lambda: " 0 are under way" in (m.mnt / "running").read_text(), "the call to end")
                (m.work / "never").unlink()
        wait_until(lambda: " 0 are under way" in (m.mnt / "running").read_text(), "the call to be killed: " + cell)
        assert kernel.run("assert ex.submit(abs, -1).result() == 1") == []


def test_progress(m, kernel):
    """A widget where ipywidgets is loaded, else text."""
    need_module("ipywidgets")
    messages = kernel.run("import ipywidgets\n_ = ppfs.progress([ex.submit(abs, -i) for i in range(5)])")
    shown = [content["data"] for kind, content in messages if kind == "display_data"]
    assert len(shown) == 1 and "application/vnd.jupyter.widget-view+json" in shown[0], messages
    said = repr([content for kind, content in messages if kind.startswith("comm")])
    assert "'value': 5" in said and "5 of 5 (100 %)" in said and "a second" not in printed(messages, "stderr")
