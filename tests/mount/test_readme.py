"""README.md's ten lines do what they say. `#= words` is what a line prints (its words, at the end of its output), `#! words`
an error message it ends with; any other comment is prose."""
import re
import subprocess

from ppfsmount import BUILD, LIVE, MARK, SLOW, TOP, Mount


def ten_lines():
    """[(command, kind, expected)] of the first shell block."""
    block = re.search(r"^```sh\n(.*?)^```$", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL).group(1)
    lines = []
    for line in block.splitlines():
        command, kind, expected = re.fullmatch(r"(.*?)(?:\s+#([=!]?) (.*))?", line).groups()
        lines.append((command, kind, expected))
    return lines


def test_ten_lines(base, fuse):
    lines = ten_lines()
    assert 8 <= len(lines) <= 12 and lines[0][0].startswith("mkdir -p ~/ppfs") and "fusermount3 -u" in lines[-1][0]
    mount = Mount(base)
    mount.mnt, mount.statedir = base / "ppfs", base / "xdg" / "ppfs"
    env = dict(mount.env, PATH="%s:%s" % (BUILD, mount.env["PATH"]))
    # One shell, as the reader's; each line's output stands between marks. Only ppfs itself carries the mark of the mount.
    script = ["ppfs() { %s=%s command ppfs \"$@\"; }" % (MARK, mount.mark)]
    for command, _, _ in lines:
        script += [command, "echo ==end of line=="]
    del env[MARK]
    LIVE.append(mount)
    try:
        p = subprocess.run(["/bin/bash", "-c", "\n".join(script)], cwd=base, env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50 * SLOW)
        mount.gone()
    finally:
        mount.abort()
        LIVE.remove(mount)
    outputs = p.stdout.split("==end of line==\n")
    assert len(outputs) == len(lines) + 1, p.stdout
    for (command, kind, expected), output in zip(lines, outputs):
        if kind:
            assert output.split()[-len(expected.split()):] == expected.split(), "%s\nprinted: %s" % (command, output)
        else:
            assert output == "", command
        assert ("rror" in output) == (kind == "!" or command.startswith("cat $P/failures")), output
    assert mount.reports() == []
