"""Machines of a test: network namespaces with a wire each to a common switch. Needs root; why_not() says what is missing.

    with Net(2) as net:
        a, b = net.hosts
        Popen([*a.wrap, "ppfs", ...])     # runs on a: its network is a's, its files are ours
        a.address, a.address6             # 10.77.0.1, fd77::1
        net.unplug(b); net.plug(b)        # the link goes down, and up
        net.deaf(b, a); net.hear(b)       # what a sends to b is dropped, what b sends to a is not
"""
import itertools
import os
import subprocess

from ppfsmount import need_programs

_numbers = itertools.count()


def _run(*words):
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, "%s: %s" % (" ".join(map(str, words)), done.stdout.strip())
    return done.stdout


def why_not(*programs):
    """A reason why there can be no namespaces here, or ''."""
    if os.geteuid():
        return "network namespaces need root"
    need_programs("ip", "nsenter", *programs)
    name = "ppfs-%d-probe" % os.getpid()
    done = subprocess.run(["ip", "netns", "add", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        return "no network namespaces here: " + done.stdout.strip()
    done = subprocess.run(["ip", "-n", name, "link", "add", "name", "br0", "type", "bridge"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    _run("ip", "netns", "del", name)
    return "no bridges here: " + done.stdout.strip() if done.returncode else ""


class Host:
    def __init__(self, name, number):
        self.name = name          # of its namespace
        self.port = "p%d" % number  # its wire's end at the switch
        self.address = "10.77.0.%d" % number
        self.address6 = "fd77::%d" % number
        # nsenter and not "ip netns exec", which would hide what is mounted below it.
        self.wrap = ["nsenter", "--net=/run/netns/" + name]

    def run(self, *words):
        """Runs a program there to its end; its output."""
        return _run(*self.wrap, *words)


class Net:
    def __init__(self, hosts):
        stem = "ppfs-%d-%d" % (os.getpid(), next(_numbers))
        self.switch = stem + "-switch"
        self.hosts = [Host("%s-h%d" % (stem, n), n) for n in range(1, hosts + 1)]
        self.made = []
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        self.namespace(self.switch)
        self.ip(self.switch, "link", "add", "name", "br0", "type", "bridge", "mcast_snooping", 0)
        self.ip(self.switch, "link", "set", "br0", "up")
        for host in self.hosts:
            self.namespace(host.name)
            self.ip(self.switch, "link", "add", "name", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            self.ip(self.switch, "link", "set", host.port, "master", "br0", "up")
            self.ip(host.name, "link", "set", "lo", "up")
            self.ip(host.name, "address", "add", host.address + "/24", "dev", "eth0")
            self.ip(host.name, "address", "add", host.address6 + "/64", "dev", "eth0", "nodad")
            self.ip(host.name, "link", "set", "eth0", "up")
            self.ip(host.name, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def namespace(self, name):
        _run("ip", "netns", "add", name)
        self.made.append(name)

    @staticmethod
    def ip(where, *words):
        return _run("ip", "-n", where, *words)

    def unplug(self, host):
        self.ip(self.switch, "link", "set", host.port, "down")

    def plug(self, host):
        self.ip(self.switch, "link", "set", host.port, "up")

    def deaf(self, host, *to):
        """The host hears nothing any more of the hosts named, or of anybody. Needs nft."""
        rules = [rule % vars(h) for h in to for rule in ("ip saddr %(address)s drop", "ip6 saddr %(address6)s drop")]
        host.run("nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; "
                 + "; ".join("add rule inet deaf in " + rule for rule in rules or ['iif "eth0" drop']))

    def hear(self, host):
        """It hears everybody again."""
        host.run("nft", "delete table inet deaf")

    def close(self):
        while self.made:
            subprocess.run(["ip", "netns", "del", self.made.pop()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
