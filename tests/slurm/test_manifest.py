"""scripts/ppfs-node.yaml is a Deployment that starts ppfs-node in a way that it understands."""
import os
import re
import subprocess

import pytest
from ppfsmount import BUILD, TOP, need_module

MANIFEST = TOP / "scripts" / "ppfs-node.yaml"


@pytest.fixture
def deployment():
    yaml = need_module("yaml")
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    assert len(documents) == 1
    return documents[0]


def test_it_is_a_deployment_whose_parts_fit(deployment):
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    pod = template["spec"]
    container, = pod["containers"]
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert {m["name"] for m in container["volumeMounts"]} == set(volumes)
    assert volumes["key"]["secret"]["defaultMode"] == 0o400


def test_ppfs_node_understands_its_command_line(built, deployment, base):
    container, = deployment["spec"]["template"]["spec"]["containers"]
    assert [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "tmp"] == ["/tmp"]
    assert "chmod +t /tmp" in container["command"][2] and container["command"][3] == "ppfs-node"
    words = container["args"]
    key = words.index("--key") + 1
    mount, = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "key"]
    assert words[key] == mount + "/key"
    given = {"POD_NAME": "ppfs-node-7c9d-x2", "POD_CPUS": "4"}
    assert {e["name"] for e in container["env"]} == set(given)
    words = [re.sub(r"\$\((\w+)\)", lambda found: given[found.group(1)], word) for word in words]
    words[key] = str(base / "none")  # the command line is right, so it is the key that is missing
    p = subprocess.run([*container["command"], *words], env=dict(os.environ, PATH="%s:%s" % (BUILD, os.environ["PATH"])), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=50)
    assert p.returncode == 1 and str(base / "none") in p.stderr, p.stderr
