"""Programs as people write them for pp and ppft, with one changed import, each run as it stands: a script whose
functions and classes are typed into __main__."""


def test_sum_of_a_series_with_a_callback(run):
    """A callback that is a method, guarded by a lock because callbacks come from several threads."""
    assert run("""
import ppfs.pp as pp
import math, sys, threading, time

class Adder:
    def __init__(self):
        self.total = 0.0
        self.parts = 0
        self.lock = threading.Lock()
    def add(self, label, part):
        assert label == "part"
        with self.lock:
            self.total += part
            self.parts += 1

def alternating_harmonic(first, last):
    total = 0
    for n in range(first, last):
        total += (1.0 if n % 2 else -1.0) / n
    return total

job_server = pp.Server()
adder = Adder()
first, last, parts = 1, 200001, 128
step = (last - first) // parts + 1
for index in range(parts):
    start = first + index * step
    job_server.submit(alternating_harmonic, (start, min(start + step, last)), callback=adder.add,
                      callbackargs=("part",))
job_server.wait()
print(adder.parts, abs(adder.total - math.log(2)) < 1e-4)
job_server.print_stats()
""").splitlines()[:2] == ["128 True", "Job execution statistics:"]


def test_differentiation_with_a_class(run):
    """Instances as arguments and results, operators, and a function that is passed as an argument."""
    assert run("""
import ppfs.pp as pp

class Dual(object):
    '''A value and its derivative.'''
    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope
    def __add__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)
    __radd__ = __add__
    def __mul__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)
    __rmul__ = __mul__

def square(x):
    return x * x

def polynomial(x):
    return square(x) * x + 3 * x + 1

def slope_at(function, x):
    return function(Dual(x, 1.0)).slope

def at(function, x):
    return function(Dual(x, 1.0))

job_server = pp.Server(2)
points = [0.0, 0.5, 1.0, 2.0]
jobs = [job_server.submit(slope_at, (polynomial, x), (Dual, square)) for x in points]
print([job() for job in jobs])
template = pp.Template(job_server, at, (Dual, square, polynomial))
results = [template.submit(polynomial, x)() for x in points]
print([r.value for r in results], isinstance(results[0], Dual))
""") == "[3.0, 3.75, 6.0, 15.0]\n[1.0, 2.625, 5.0, 15.0] True\n"


def test_search_for_a_digest(run):
    """The work is cut into pieces by the number of processors, and the first hit ends it."""
    assert run("""
import ppfs.pp as pp
import hashlib

def digest_of(number):
    return hashlib.md5(str(number).encode()).hexdigest()

def search(wanted, start, end):
    for number in range(start, end):
        if digest_of(number) == wanted:
            return number

wanted = hashlib.md5(b"1829182").hexdigest()
job_server = pp.Server(ncpus=2)
print("Starting pp with", job_server.get_ncpus(), "workers")
low, high, parts = 1829000, 1830000, 16
step = (high - low) // parts + 1
jobs = []
for i in range(parts):
    start = low + i * step
    jobs.append(job_server.submit(search, (wanted, start, min(start + step, high)), (digest_of,), ("hashlib",)))
for job in jobs:
    result = job()
    if result:
        break
print("found", result)
job_server.destroy()
""") == "Starting pp with 2 workers\nfound 1829182\n"


def test_number_of_processors_changed_under_way(run):
    assert run("""
import ppfs.pp as pp

def part_sum(start, end):
    total = 0
    for x in range(start, end):
        total += 1.0 / (x * x)
    return total

job_server = pp.Server(1, ppservers=())
sums = []
for ncpus in (1, 2, 4, 3):
    job_server.set_ncpus(ncpus)
    print("with", job_server.get_ncpus(), job_server.get_active_nodes())
    jobs = [job_server.submit(part_sum, (1 + i * 500, 1 + (i + 1) * 500)) for i in range(20)]
    sums.append(sum(job() for job in jobs))
print(len(set(sums)), round(sums[0], 3))
""") == ("with 1 {'local': 1}\nwith 2 {'local': 2}\nwith 4 {'local': 4}\nwith 3 {'local': 3}\n1 1.645\n")


def test_jobs_that_submit_jobs(run):
    """Each level has a server of its own; no level waits for a slot that only it could give."""
    assert run("""
import ppfs.pp as pp

def sort(items):
    import ppfs.pp as pp
    if len(items) < 4:
        return sorted(items)
    middle = items[len(items) // 2]
    with pp.Server() as server:
        small = server.submit(sort, ([x for x in items if x < middle],))
        large = server.submit(sort, ([x for x in items if x > middle],))
        return small() + [x for x in items if x == middle] + large()

job_server = pp.Server()
print(job_server.submit(sort, ([9, 2, 7, 7, 1, 8, 3, 5, 4],))())
""") == "[1, 2, 3, 4, 5, 7, 7, 8, 9]\n"


def test_what_jobs_print(run):
    """It is printed once, here: when the job is first called, or before its callback."""
    assert run("""
import ppfs.pp as pp, sys

def chatty(n):
    print("job", n)
    sys.stderr.write("and more\\\\n") if n == 1 else None
    return n

job_server = pp.Server()
job = job_server.submit(chatty, (1,), modules=("sys",))
job.wait()
print("ended", job.finished)
print(job(), job())
job_server.submit(chatty, (2,), modules=("sys",), callback=lambda n: print("callback", n))
job_server.wait()
sys.stdout.flush()
""".replace("\\\\", "\\")) == "ended True\njob 1\nand more\n1 1\njob 2\ncallback 2\n"


def test_callbacks_that_wait_for_jobs(run):
    """A callback may submit and wait itself, several at a time."""
    assert run("""
import ppfs.pp as pp

def double(x):
    return 2 * x

job_server = pp.Server()
got = []
def again(x):
    got.append(job_server.submit(double, (x,))())
for i in range(20):
    job_server.submit(double, (i,), callback=again, group="first")
job_server.wait("first")
job_server.wait()
print(sorted(got) == [4 * i for i in range(20)])
""") == "True\n"


def test_groups_and_modules(run):
    """Names as pp binds them: an imported module under its own name, a dotted one too."""
    assert run("""
import ppfs.pp as pp

def area(radius):
    return round(math.pi * radius ** 2, 2)

def join(*parts):
    return os.path.join(*parts) + string.ascii_lowercase[:2]

s = pp.Server()
areas = [s.submit(area, (r,), modules=("math",), group="areas") for r in range(3)]
paths = s.submit(join, ("a", "b"), (), ("os.path", "string"), group="paths")
s.wait("areas")
print([job() for job in areas], all(job.finished for job in areas))
s.wait(group="paths")
print(paths())
print(s.submit(lambda: 5)())
""") == "[0.0, 3.14, 12.57] True\na/bab\n5\n"
